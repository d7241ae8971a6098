/**
 * The gutter: beside each cell of the notebook that is looked at, how many tasks of it run and wait. It asks the cluster
 * only while the page is seen and the notebook has a cluster of its own, and never for more than the newest rows.
 */
import { IDisposable } from '@lumino/disposable';

import { ISubscription, PanelState } from '../core/index.js';
import { ITaskOfCell, workByCell, workWords } from '../state/cell_work.js';
import { Notebooks } from './notebooks';
import { RaybookServer } from './server';

const ROWS_MAX = 300;
const CLASS = 'raybook-gutter';

export class Gutter implements IDisposable {
  isDisposed = false;
  private _cluster: string | null = null;
  private _subscription: ISubscription | null = null;
  private _tasks: ITaskOfCell[] = [];
  private readonly _seen = (): void => this._follow();

  constructor(
    private readonly _server: RaybookServer,
    private readonly _notebooks: Notebooks
  ) {
    _server.changed.connect(this._follow, this);
    _notebooks.changed.connect(this._follow, this);
    document.addEventListener('visibilitychange', this._seen);
    this._follow();
  }

  dispose(): void {
    this.isDisposed = true;
    document.removeEventListener('visibilitychange', this._seen);
    this._leave();
  }

  private _follow(): void {
    const kernelId = this._notebooks.kernelId;
    const cluster = document.hidden || this.isDisposed ? null : (this._server.ofKernel(kernelId)?.cluster_id ?? null);
    if (cluster === this._cluster) {
      return;
    }
    this._leave();
    this._cluster = cluster;
    if (cluster !== null) {
      this._subscription = this._server
        .source(cluster)
        .subscribe('tasks', { rows_max: ROWS_MAX }, state => this._take(state), () => this._show([]));
    }
  }

  private _leave(): void {
    this._subscription?.dispose();
    this._subscription = null;
    this._cluster = null;
    this._show([]);
  }

  private _take(state: PanelState): void {
    this._show(state.rows('tasks').map(({ state: word, cell }) => ({ state: word, cell })));
  }

  private _show(tasks: ITaskOfCell[]): void {
    if (tasks.length === 0 && this._tasks.length === 0) {
      return;
    }
    this._tasks = tasks;
    const cells = this._notebooks.cells();
    const work = workByCell(tasks, cells);
    cells.forEach(({ node }, place) => {
      const found = work.get(place);
      let badge = node.querySelector<HTMLElement>(`.${CLASS}`);
      if (found === undefined) {
        badge?.remove();
        return;
      }
      if (badge === null) {
        badge = document.createElement('div');
        badge.className = CLASS;
        badge.setAttribute('role', 'note');
        (node.querySelector('.jp-InputArea') ?? node).append(badge);
      }
      const { short, long } = workWords(found);
      badge.textContent = short;
      badge.title = long;
      badge.setAttribute('aria-label', long);
    });
  }
}
