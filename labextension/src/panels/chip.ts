/**
 * The toolbar chip: draws the state of one notebook's cluster, follows the notebook's kernel, and opens a menu of what can
 * be done with it. Decides no words (`state/describe.ts`), asks no server (`state/cluster.ts`), does nothing itself
 * (`lab/actions.ts`).
 */
import { DocumentRegistry, IDocumentWidget } from '@jupyterlab/docregistry';
import { ServerConnection } from '@jupyterlab/services';
import { CommandRegistry } from '@lumino/commands';
import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { Menu, Widget } from '@lumino/widgets';

import { Actions } from '../lab/actions';
import { Notebooks } from '../lab/notebooks';

import { ClusterOfKernel } from '../state/cluster';
import { ChipState, describe } from '../state/describe';

export class Chip extends Widget {
  /** The toolbar stretches its items to its own height; the chip sits inside one and keeps its size. */
  private readonly _body = document.createElement('button');
  /** What changes is told to a screen reader, which says nothing of a button that changes. */
  private readonly _told = document.createElement('span');

  constructor(
    private readonly _cluster: ClusterOfKernel,
    private readonly _menuOf: (state: ChipState) => Menu
  ) {
    super();
    this.addClass('raybook-chip-item');
    this.node.append(this._body, this._told);
    this._body.type = 'button';
    this._body.className = 'raybook-chip';
    this._body.setAttribute('aria-haspopup', 'menu');
    this._body.addEventListener('click', () => this._open());
    this._told.className = 'raybook-told';
    this._told.setAttribute('role', 'status');
    _cluster.changed.connect((_, state) => this._draw(state));
    this._draw(_cluster.state);
  }

  dispose(): void {
    if (!this.isDisposed) {
      this._cluster.dispose();
      super.dispose();
    }
  }

  private _open(): void {
    const { left, bottom } = this._body.getBoundingClientRect();
    const menu = this._menuOf(this._cluster.state);
    menu.aboutToClose.connect(() => this._body.focus());
    menu.open(left, bottom);
  }

  private _draw(state: ChipState): void {
    const words = describe(state);
    // textContent escapes: a cluster's name is a user's input.
    this._body.textContent = words.text;
    this._body.title = words.tooltip;
    this._body.dataset.tone = words.tone;
    this._told.textContent = words.text;
  }
}

/** Gives every notebook a chip. Structural types only, so that this extension does not pull in the notebook package. */
export class ChipExtension implements DocumentRegistry.IWidgetExtension<IDocumentWidget, DocumentRegistry.IModel> {
  constructor(
    private readonly _settings: ServerConnection.ISettings,
    private readonly _pollIntervalMs: number,
    private readonly _notebooks: Notebooks,
    private readonly _actions: Actions
  ) {}

  createNew(panel: IDocumentWidget, context: DocumentRegistry.IContext<DocumentRegistry.IModel>): IDisposable {
    const cluster = new ClusterOfKernel(this._settings, this._pollIntervalMs);
    const chip = new Chip(cluster, state => this._menu(state));
    const follow = (): void => cluster.watch(context.sessionContext.session?.kernel?.id ?? null);
    context.sessionContext.kernelChanged.connect(follow);
    follow();
    this._notebooks.add(panel, context);
    // Right of the spacer, left of the kernel's name: the chip is about what the kernel owns.
    if (!panel.toolbar?.insertAfter('spacer', 'raybook-chip', chip)) {
      panel.toolbar?.addItem('raybook-chip', chip);
    }
    return new DisposableDelegate(() => {
      context.sessionContext.kernelChanged.disconnect(follow);
      chip.dispose();
    });
  }

  private _menu(state: ChipState): Menu {
    const commands = new CommandRegistry();
    const menu = new Menu({ commands });
    menu.addClass('raybook-menu');
    const add = (label: string, execute: () => unknown): void => {
      const id = `item-${menu.items.length}`;
      commands.addCommand(id, { label, execute });
      menu.addItem({ command: id });
    };
    if (state.kind !== 'cluster') {
      add('Start a cluster…', () => this._actions.startCluster());
      return menu;
    }
    const { record } = state;
    add('Open overview', () => this._actions.openPane('overview', record));
    add('Open tasks', () => this._actions.openPane('tasks', record));
    menu.addItem({ type: 'separator' });
    if (!record.persist && this._actions.can('persist')) {
      add('Keep it when the kernel ends', () => this._actions.persist(record));
    }
    if (this._actions.can('hand-over')) {
      for (const other of this._notebooks.others(record.owner_kernel_id ?? null)) {
        add(`Hand over to ${other.path}`, () => this._actions.handOver(record, other.kernelId));
      }
    }
    add('Scale…', () => this._actions.scale(record));
    menu.addItem({ type: 'separator' });
    add('Stop…', () => this._actions.stop(record));
    return menu;
  }
}
