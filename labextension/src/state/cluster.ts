/**
 * The cluster of one kernel, kept fresh: asks the Jupyter server on a Lumino poll that stands by while the page is
 * hidden, and tells its listeners when the answer changed. Knows HTTP and nothing of the DOM. The browser only ever
 * speaks to `{base_url}raybook/` on its own Jupyter server, never to a cluster's port.
 */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import { ChipState, IClusterRecord } from './describe';

/** The longest pause between two attempts while the server does not answer. */
const BACKOFF_MS_MAX = 30_000;

export class ClusterOfKernel implements IDisposable {
  private readonly _changed = new Signal<this, ChipState>(this);
  private readonly _poll: Poll;
  private _kernelId: string | null = null;
  private _state: ChipState = { kind: 'no-kernel' };

  constructor(
    private readonly _settings: ServerConnection.ISettings,
    intervalMs: number
  ) {
    this._poll = new Poll({
      auto: true,
      name: 'raybook:cluster-of-kernel',
      factory: () => this._ask(),
      frequency: { interval: intervalMs, backoff: true, max: Math.max(BACKOFF_MS_MAX, intervalMs) },
      standby: 'when-hidden'
    });
  }

  get state(): ChipState {
    return this._state;
  }

  get changed(): ISignal<this, ChipState> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._poll.isDisposed;
  }

  dispose(): void {
    this._poll.dispose();
    Signal.clearData(this);
  }

  /** Watch another kernel (a restart keeps the id, a switch does not); null when the notebook has none. */
  watch(kernelId: string | null): void {
    if (kernelId === this._kernelId) {
      return;
    }
    this._kernelId = kernelId;
    this._become(kernelId === null ? { kind: 'no-kernel' } : { kind: 'asking' });
    void this._poll.refresh();
  }

  private async _ask(): Promise<void> {
    const kernelId = this._kernelId;
    if (kernelId === null) {
      return;
    }
    let next: ChipState;
    let failure: Error | null = null;
    try {
      next = await this._fetch(kernelId);
    } catch (reason) {
      // A network error only: HTTP verdicts are answers and come back as states.
      failure = reason as Error;
      next = { kind: 'unreachable', reason: failure.message };
    }
    if (this.isDisposed || kernelId !== this._kernelId) {
      return; // The question is no longer asked.
    }
    this._become(next);
    if (failure !== null) {
      throw failure; // The poll backs off on a rejected phase.
    }
  }

  private async _fetch(kernelId: string): Promise<ChipState> {
    const url = URLExt.join(this._settings.baseUrl, 'raybook', 'clusters', 'by-kernel', encodeURIComponent(kernelId));
    const response = await ServerConnection.makeRequest(url, {}, this._settings);
    if (response.status === 404) {
      return { kind: 'no-extension' };
    }
    if (!response.ok) {
      return { kind: 'unreachable', reason: `HTTP ${response.status}` };
    }
    const { cluster } = (await response.json()) as { cluster: IClusterRecord | null };
    if (cluster !== null) {
      return { kind: 'cluster', record: cluster };
    }
    // The registry forgets a cluster the moment it ends; the chip says so as long as this kernel starts no other.
    const before = this._state;
    if (before.kind === 'cluster') {
      return { kind: 'ended', name: before.record.name };
    }
    return before.kind === 'ended' ? before : { kind: 'no-cluster' };
  }

  private _become(next: ChipState): void {
    this._state = next;
    this._changed.emit(next);
  }
}
