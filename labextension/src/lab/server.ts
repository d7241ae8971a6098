/**
 * The Jupyter server's `raybook/` routes, as the rest of the extension uses them: what clusters there are, commands, and
 * the one WebSocket. Everything goes through ServerConnection: base URL, token, cookies and the XSRF header are its affair.
 */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import { HttpCommands, IAnswer, ICommands, ISource, Socket } from '../core/index.js';
import { IClusterRecord } from '../state/describe';
import { linkOf } from '../state/link';

/** The longest pause between two looks while the server does not answer. */
const BACKOFF_MS_MAX = 15_000;

/** `missing`: the Jupyter server has no raybook. `silent`: it did not answer. */
export type ServerState = 'asking' | 'here' | 'missing' | 'silent';

/** What of a notebook a command's button may do. */
export interface IHooks {
  insertCell?: (code: string) => void;
  revealCell?: (cell: string) => void;
}

export class RaybookServer implements IDisposable {
  readonly socket: Socket;
  state: ServerState = 'asking';
  clusters: IClusterRecord[] = [];
  private readonly _changed = new Signal<this, void>(this);
  private readonly _poll: Poll;
  private _available: string[] | null = null;
  private _text = '';

  constructor(
    readonly settings: ServerConnection.ISettings,
    intervalMs: number
  ) {
    // The page's one WebSocket: views under cells use it, too.
    this.socket = linkOf(settings).socket;
    this._poll = new Poll({
      auto: true,
      name: 'raybook:clusters',
      factory: () => this._look(),
      frequency: { interval: intervalMs, backoff: true, max: Math.max(BACKOFF_MS_MAX, intervalMs) },
      standby: 'when-hidden'
    });
  }

  /** The list of clusters, or whether the server answers, is different. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._poll.isDisposed;
  }

  dispose(): void {
    this._poll.dispose();
    Signal.clearData(this);
  }

  /** Look now. */
  refresh(): void {
    void this._poll.refresh();
  }

  find(clusterId: string): IClusterRecord | undefined {
    return this.clusters.find(record => record.cluster_id === clusterId);
  }

  /** The newest cluster that this kernel owns. */
  ofKernel(kernelId: string | null | undefined): IClusterRecord | undefined {
    return kernelId ? this.clusters.filter(record => record.owner_kernel_id === kernelId).pop() : undefined;
  }

  source(clusterId: string): ISource {
    return this.socket.source(clusterId);
  }

  commands(clusterId: string, hooks: IHooks = {}): ICommands {
    return new HttpCommands(clusterId, (path, body) => this.post(path, body), this._available ?? [], hooks);
  }

  /** POST below `raybook/`. Rejects when there was no answer. */
  async post(path: string, body: object): Promise<IAnswer> {
    const response = await ServerConnection.makeRequest(
      this._url(path),
      { method: 'POST', body: JSON.stringify(body) },
      this.settings
    );
    const json = await response.json().catch(() => null);
    this.refresh();
    return { status: response.status, json };
  }

  private _url(path: string): string {
    return URLExt.join(this.settings.baseUrl, 'raybook', path);
  }

  private async _look(): Promise<void> {
    try {
      if (this._available === null) {
        const ping = await ServerConnection.makeRequest(this._url('ping'), {}, this.settings);
        if (ping.status === 404) {
          this._become('missing', []);
          return;
        }
        this._available = ((await ping.json()) as { commands?: string[] }).commands ?? [];
      }
      const response = await ServerConnection.makeRequest(this._url('clusters'), {}, this.settings);
      if (!response.ok) {
        throw new Error(`HTTP ${response.status}`);
      }
      this._become('here', ((await response.json()) as { clusters: IClusterRecord[] }).clusters);
    } catch (reason) {
      this._become('silent', this.clusters);
      throw reason; // The poll backs off on a rejected phase.
    }
  }

  private _become(state: ServerState, clusters: IClusterRecord[]): void {
    const text = JSON.stringify([state, clusters]);
    if (text !== this._text && !this.isDisposed) {
      this._text = text;
      this.state = state;
      this.clusters = clusters;
      this._changed.emit();
    }
  }
}
