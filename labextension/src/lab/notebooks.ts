/**
 * The notebooks that are open, and the one that is looked at: its kernel, its cells. Structural types only, so that this
 * extension does not pull in the notebook package.
 */
import { JupyterFrontEnd } from '@jupyterlab/application';
import { DocumentRegistry, IDocumentWidget } from '@jupyterlab/docregistry';
import { ISignal, Signal } from '@lumino/signaling';
import { Widget } from '@lumino/widgets';

interface ICellWidget {
  model: { id: string; sharedModel: { setSource(source: string): void }; executionCount?: number | null };
  node: HTMLElement;
}

interface INotebookContent {
  activeCell: ICellWidget | null;
  activeCellIndex: number;
  widgets: readonly ICellWidget[];
}

export type Context = DocumentRegistry.IContext<DocumentRegistry.IModel>;

export interface IOpenNotebook {
  panel: IDocumentWidget;
  context: Context;
}

export class Notebooks {
  current: IOpenNotebook | null = null;
  private readonly _open: IOpenNotebook[] = [];
  private readonly _changed = new Signal<this, void>(this);

  constructor(private readonly _app: JupyterFrontEnd) {
    const shell = _app.shell as JupyterFrontEnd.IShell & { currentChanged?: ISignal<unknown, unknown> };
    shell.currentChanged?.connect(() => this._look());
  }

  /** Another notebook is looked at, or its kernel is another one. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get kernelId(): string | null {
    return this.current?.context.sessionContext.session?.kernel?.id ?? null;
  }

  add(panel: IDocumentWidget, context: Context): void {
    const notebook = { panel, context };
    this._open.push(notebook);
    context.sessionContext.kernelChanged.connect(() => this._changed.emit());
    panel.disposed.connect(() => {
      this._open.splice(this._open.indexOf(notebook), 1);
      if (this.current === notebook) {
        this.current = this._open[this._open.length - 1] ?? null;
        this._changed.emit();
      }
    });
    if (this.current === null) {
      this.current = notebook;
    }
    this._look();
    this._changed.emit();
  }

  /** The path of the notebook that has this kernel, if it is open here. */
  pathOf(kernelId: string | null): string | undefined {
    return this._open.find(({ context }) => kernelId !== null && context.sessionContext.session?.kernel?.id === kernelId)
      ?.context.path;
  }

  /** Others that could take over a cluster: kernels of open notebooks. */
  others(kernelId: string | null): { kernelId: string; path: string }[] {
    const found = this._open.map(({ context }) => ({
      kernelId: context.sessionContext.session?.kernel?.id ?? '',
      path: context.path
    }));
    return found.filter(each => each.kernelId !== '' && each.kernelId !== kernelId);
  }

  /** A new cell with this code below the active one of the notebook that is looked at. False when there is none. */
  async insertCell(code: string): Promise<boolean> {
    const notebook = this.current;
    if (notebook === null) {
      return false;
    }
    this._app.shell.activateById(notebook.panel.id);
    await this._app.commands.execute('notebook:insert-cell-below');
    this._content(notebook).activeCell?.model.sharedModel.setSource(code);
    return true;
  }

  /** The cells of the notebook that is looked at. */
  cells(): { node: HTMLElement; prompt: number | '*' | null }[] {
    return (this.current === null ? [] : this._content(this.current).widgets).map(({ node, model }) => {
      const text = node.querySelector('.jp-InputPrompt')?.textContent ?? '';
      return { node, prompt: text.includes('*') ? '*' : (model.executionCount ?? null) };
    });
  }

  /** Show the cell that is called `In[3]`. */
  revealCell(cell: string): void {
    const notebook = this.current;
    const number = Number(/^In\[(\d+)\]$/.exec(cell)?.[1] ?? NaN);
    if (notebook === null || Number.isNaN(number)) {
      return;
    }
    const content = this._content(notebook);
    const at = content.widgets.findIndex(each => each.model.executionCount === number);
    if (at >= 0) {
      this._app.shell.activateById(notebook.panel.id);
      content.activeCellIndex = at;
      content.widgets[at].node.scrollIntoView({ block: 'center' });
    }
  }

  private _content(notebook: IOpenNotebook): INotebookContent {
    return notebook.panel.content as Widget as unknown as INotebookContent;
  }

  private _look(): void {
    const shown = this._app.shell.currentWidget;
    const found = this._open.find(({ panel }) => (panel as Widget) === shown);
    if (found !== undefined && found !== this.current) {
      this.current = found;
      this._changed.emit();
    }
  }
}
