/**
 * Socket: one WebSocket to `{base_url}raybook/ws` for all views of a page. It connects when the first view subscribes,
 * reconnects with growing pauses, subscribes everything anew after that, and closes when nobody looks any more.
 *
 * Invariants: a view's state only ever moves by whole messages; after a lost message its subscription starts afresh.
 */
import { PanelName } from './schema.js';
import { IFailure, IFilter, ISource, ISubscription, Status } from './source.js';
import { IMessage, PanelState } from './state.js';

const BACKOFF_MS = [250, 500, 1_000, 2_000, 5_000, 10_000];
const PING_MS = 20_000;
const ANSWER_MS = 10_000;

/** The part of the browser's WebSocket that is used; JupyterLab brings its own. */
export interface IWire {
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: never) => void) | null;
  send(text: string): void;
  close(): void;
}

type Incoming = IMessage & { op?: string; sub?: number; error?: IFailure };

interface ISub {
  cluster: string;
  panel: PanelName;
  filter: IFilter;
  state: PanelState;
  listener: (state: PanelState) => void;
  failed?: (failure: IFailure) => void;
}

export class Socket {
  status: Status = 'waiting';
  private _wire: IWire | null = null;
  private _isOpen = false;
  private _subs = new Map<number, ISub>();
  private _nextSub = 1;
  private _attempt = 0;
  private _retryTimer: ReturnType<typeof setTimeout> | undefined;
  private _pingTimer: ReturnType<typeof setInterval> | undefined;
  private _heardMs = 0;
  private _listeners = new Set<(status: Status) => void>();

  /** connect: opens a WebSocket to the route; called anew for every attempt. */
  constructor(private readonly _connect: () => IWire) {}

  /** The views of one cluster. */
  source(cluster: string): ISource {
    const socket = this as Socket;
    return {
      get status(): Status {
        return socket.status;
      },
      onStatus: listener => socket.onStatus(listener),
      subscribe: (panel, filter, listener, failed) => socket.subscribe(cluster, panel, filter, listener, failed)
    };
  }

  onStatus(listener: (status: Status) => void): () => void {
    this._listeners.add(listener);
    return () => void this._listeners.delete(listener);
  }

  subscribe(
    cluster: string,
    panel: PanelName,
    filter: IFilter,
    listener: (state: PanelState) => void,
    failed?: (failure: IFailure) => void
  ): ISubscription {
    const sub: ISub = { cluster, panel, filter, state: new PanelState(), listener, failed };
    let id = this._add(sub);
    return {
      refilter: next => {
        // A new number: what is under way for the old filter is nobody's.
        this._remove(id);
        sub.filter = next;
        sub.state = new PanelState();
        id = this._add(sub);
      },
      dispose: () => {
        this._remove(id);
        if (this._subs.size === 0) {
          this.close();
        }
      }
    };
  }

  /** Nobody looks any more. A later subscription connects again. */
  close(): void {
    clearTimeout(this._retryTimer);
    clearInterval(this._pingTimer);
    const wire = this._wire;
    this._wire = null;
    this._isOpen = false;
    this._attempt = 0;
    if (wire !== null) {
      wire.onclose = wire.onmessage = wire.onopen = null;
      wire.close();
    }
  }

  private _add(sub: ISub): number {
    const id = this._nextSub++;
    this._subs.set(id, sub);
    if (this._wire === null) {
      this._open();
    } else {
      this._ask(id, sub);
    }
    return id;
  }

  private _remove(id: number): void {
    if (this._subs.delete(id)) {
      this._send({ op: 'unsubscribe', sub: id });
    }
  }

  private _ask(sub: number, { cluster, panel, filter, state }: ISub): void {
    this._send({ op: 'subscribe', sub, cluster, panel, filter, since: state.version });
  }

  private _send(message: object): void {
    if (this._isOpen) {
      this._wire?.send(JSON.stringify(message));
    }
  }

  private _open(): void {
    clearTimeout(this._retryTimer);
    const wire = (this._wire = this._connect());
    wire.onopen = () => {
      this._isOpen = true;
      this._attempt = 0;
      this._heardMs = Date.now();
      this._pingTimer = setInterval(() => this._ping(wire), PING_MS);
      this._become('live');
      this._subs.forEach((sub, id) => this._ask(id, sub));
    };
    wire.onmessage = event => this._hear(JSON.parse(String(event.data)) as Incoming);
    wire.onclose = () => this._lost(wire);
  }

  private _ping(wire: IWire): void {
    if (Date.now() - this._heardMs > PING_MS + ANSWER_MS) {
      wire.close(); // A network that is gone says nothing.
      this._lost(wire);
      return;
    }
    this._send({ op: 'ping' });
  }

  private _lost(wire: IWire): void {
    if (this._wire !== wire) {
      return;
    }
    clearInterval(this._pingTimer);
    this._wire = null;
    this._isOpen = false;
    this._become('waiting');
    if (this._subs.size > 0) {
      const pause = BACKOFF_MS[Math.min(this._attempt, BACKOFF_MS.length - 1)];
      this._attempt += 1;
      this._retryTimer = setTimeout(() => this._open(), pause);
    }
  }

  private _hear(message: Incoming): void {
    this._heardMs = Date.now();
    const sub = message.sub === undefined ? undefined : this._subs.get(message.sub);
    if (sub === undefined) {
      return;
    }
    if (message.error !== undefined) {
      sub.failed?.(message.error);
    } else if (sub.state.apply(message)) {
      sub.listener(sub.state);
    } else {
      sub.state = new PanelState();
      this._ask(message.sub as number, sub);
    }
  }

  private _become(status: Status): void {
    if (this.status !== status) {
      this.status = status;
      this._listeners.forEach(listener => listener(status));
    }
  }
}
