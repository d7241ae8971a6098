/**
 * The toolbar chip: draws the state of one notebook's cluster, and follows the notebook's kernel. Decides no words
 * (`state/describe.ts`) and asks no server (`state/cluster.ts`).
 */
import { DocumentRegistry, IDocumentWidget } from '@jupyterlab/docregistry';
import { ServerConnection } from '@jupyterlab/services';
import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { Widget } from '@lumino/widgets';

import { ClusterOfKernel } from '../state/cluster';
import { ChipState, describe } from '../state/describe';

export class Chip extends Widget {
  /** The toolbar stretches its items to its own height; the chip sits inside one and keeps its size. */
  private readonly _body = document.createElement('span');

  constructor(private readonly _cluster: ClusterOfKernel) {
    super();
    this.addClass('raybook-chip-item');
    this.node.append(this._body);
    this._body.className = 'raybook-chip';
    this._body.setAttribute('role', 'status');
    _cluster.changed.connect((_, state) => this._draw(state));
    this._draw(_cluster.state);
  }

  dispose(): void {
    if (!this.isDisposed) {
      this._cluster.dispose();
      super.dispose();
    }
  }

  private _draw(state: ChipState): void {
    const words = describe(state);
    // textContent escapes: a cluster's name is a user's input.
    this._body.textContent = words.text;
    this._body.title = words.tooltip;
    this._body.dataset.tone = words.tone;
  }
}

/** Gives every notebook a chip. Structural types only, so that this extension does not pull in the notebook package. */
export class ChipExtension implements DocumentRegistry.IWidgetExtension<IDocumentWidget, DocumentRegistry.IModel> {
  constructor(
    private readonly _settings: ServerConnection.ISettings,
    private readonly _pollIntervalMs: number
  ) {}

  createNew(panel: IDocumentWidget, context: DocumentRegistry.IContext<DocumentRegistry.IModel>): IDisposable {
    const cluster = new ClusterOfKernel(this._settings, this._pollIntervalMs);
    const chip = new Chip(cluster);
    const follow = (): void => cluster.watch(context.sessionContext.session?.kernel?.id ?? null);
    context.sessionContext.kernelChanged.connect(follow);
    follow();
    // Right of the spacer, left of the kernel's name: the chip is about what the kernel owns.
    if (!panel.toolbar?.insertAfter('spacer', 'raybook-chip', chip)) {
      panel.toolbar?.addItem('raybook-chip', chip);
    }
    return new DisposableDelegate(() => {
      context.sessionContext.kernelChanged.disconnect(follow);
      chip.dispose();
    });
  }
}
