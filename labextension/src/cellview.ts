/**
 * Views under cells inside JupyterLab and Notebook 7: an output that names a cluster is drawn by the core over the server's
 * WebSocket. No kernel and no widget model takes part, so it moves while the cell runs and goes on after the page was
 * loaded anew. Where the server cannot show the cluster, the output's other forms are drawn: the live widget as long as the
 * kernel may have it, then the saved HTML.
 */
import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IDocumentWidget, DocumentRegistry } from '@jupyterlab/docregistry';
import { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { ServerConnection } from '@jupyterlab/services';
import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { Widget } from '@lumino/widgets';

import { mountCard } from './core/index.js';
import { IHooks, linkOf } from './state/link.js';

export const VIEW_MIME = 'application/vnd.raybook.view+json';
const WIDGET_MIME = 'application/vnd.jupyter.widget-view+json';
const HTML_MIME = 'text/html';
/** Before ipywidgets' own renderer, which has −10. */
const RANK = -20;

export interface IViewData {
  cluster_id: string;
  run_id: string;
  panels: string[];
  cell: string;
  kernel_id: string;
}

/** What of a notebook is used here; structural, so that the notebook package is not pulled in. */
interface INotebookPanel {
  content: {
    rendermime: {
      addFactory(factory: IRenderMime.IRendererFactory, rank?: number): void;
      removeMimeType(mimeType: string): void;
      createRenderer(mimeType: string): IRenderMime.IRenderer;
    };
    activeCellIndex: number;
    widgets: readonly { model: { id: string; sharedModel?: { execution_count?: number | null } } }[];
    scrollToItem?(index: number, align?: string): Promise<void>;
  };
  context: {
    sessionContext: { session: { kernel: { id: string } | null } | null };
    model: { sharedModel: { insertCell(index: number, cell: object): unknown } };
  };
}

class CellView extends Widget implements IRenderMime.IRenderer {
  private _unmount: (() => void) | null = null;
  private _fallback: IRenderMime.IRenderer | null = null;

  constructor(
    private readonly _panel: INotebookPanel,
    private readonly _settings: ServerConnection.ISettings
  ) {
    super();
    this.addClass('raybook-cell-view');
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const data = model.data[VIEW_MIME] as unknown as IViewData;
    const link = linkOf(this._settings);
    const ping = await link.ping();
    if (this.isDisposed) {
      return;
    }
    if (ping === null || !ping.ws || !data?.cluster_id) {
      await this._fallBack(model);
      return;
    }
    this._clear();
    const source = link.socket.source(data.cluster_id);
    let isSeen = false;
    const watched = {
      ...source,
      get status() {
        return source.status;
      },
      subscribe: (...[panel, filter, listener, failed]: Parameters<typeof source.subscribe>) =>
        source.subscribe(
          panel,
          filter,
          state => {
            isSeen = true;
            listener(state);
          },
          failure => {
            // A cluster that was never seen from here is not this server's; one that ended keeps its last picture.
            if (isSeen) {
              failed?.(failure);
            } else {
              void this._fallBack(model);
            }
          }
        )
    };
    this._unmount = mountCard(data.panels ?? [], this.node, watched, link.commands(data.cluster_id, ping, this._hooks()), {
      runId: data.run_id || undefined,
      cellId: data.cell || undefined,
      kernelId: data.kernel_id || undefined
    });
  }

  dispose(): void {
    if (!this.isDisposed) {
      this._clear();
      super.dispose();
    }
  }

  private _clear(): void {
    this._unmount?.();
    this._unmount = null;
    this._fallback?.dispose();
    this._fallback = null;
    this.node.classList.remove('raybook-view', 'raybook-card');
  }

  private async _fallBack(model: IRenderMime.IMimeModel): Promise<void> {
    this._clear();
    const { content, context } = this._panel;
    const kernelId = context.sessionContext.session?.kernel?.id;
    const data = model.data[VIEW_MIME] as unknown as IViewData;
    // A kernel that was started anew has forgotten its widgets; the same id may still be a new life, and then the
    // widget's renderer says so itself.
    const isLive = model.trusted && kernelId !== undefined && kernelId === data?.kernel_id && WIDGET_MIME in model.data;
    this._fallback = content.rendermime.createRenderer(isLive ? WIDGET_MIME : HTML_MIME);
    await this._fallback.renderModel(model);
    if (!this.isDisposed && this._fallback !== null) {
      Widget.attach(this._fallback as unknown as Widget, this.node);
    }
  }

  private _hooks(): IHooks {
    const { content, context } = this._panel;
    return {
      insertCell: code => {
        const index = content.activeCellIndex + 1;
        context.model.sharedModel.insertCell(index, { cell_type: 'code', source: code, metadata: {} });
        content.activeCellIndex = index;
      },
      revealCell: cell => {
        const index = content.widgets.findIndex(({ model }) => model.id === cell || `In[${model.sharedModel?.execution_count}]` === cell);
        if (index >= 0) {
          content.activeCellIndex = index;
          void content.scrollToItem?.(index, 'smart');
        }
      }
    };
  }
}

/** Gives every notebook a renderer of its own, which knows the notebook it is in. */
export class CellViews implements DocumentRegistry.IWidgetExtension<IDocumentWidget, DocumentRegistry.IModel> {
  constructor(private readonly _settings: ServerConnection.ISettings) {}

  createNew(document: IDocumentWidget): IDisposable {
    const panel = document as unknown as INotebookPanel;
    const factory: IRenderMime.IRendererFactory = {
      safe: true, // It draws text only; HTML from the file goes through JupyterLab's own renderer.
      mimeTypes: [VIEW_MIME],
      defaultRank: RANK,
      createRenderer: () => new CellView(panel, this._settings)
    };
    panel.content.rendermime.addFactory(factory, RANK);
    return new DisposableDelegate(() => undefined);
  }
}

export const cellViews: JupyterFrontEndPlugin<void> = {
  id: 'raybook:cell-views',
  description: 'Draws the live views under cells over the Jupyter server, past the kernel.',
  autoStart: true,
  activate: (app: JupyterFrontEnd): void => {
    app.docRegistry.addWidgetExtension('Notebook', new CellViews(app.serviceManager.serverSettings));
  }
};
