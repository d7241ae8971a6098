/**
 * The way from this page to raybook's part of the Jupyter server: its answer to a ping, one WebSocket for all views of the
 * page, and commands by POST. Through `ServerConnection`, so that base URLs, tokens and proxies are JupyterLab's business.
 */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import { HttpCommands, IWire, Socket } from '../core/index.js';

/** What the server part says of itself. */
export interface IPing {
  ws: boolean;
  commands: string[];
}

export interface IHooks {
  insertCell?: (code: string) => void;
  revealCell?: (cell: string) => void;
}

/** A server part that was not there may have been started since. */
const ASK_AGAIN_MS = 10_000;

export class ServerLink {
  readonly socket: Socket;
  private _ping: Promise<IPing | null> | null = null;
  private _askedMs = 0;

  constructor(private readonly _settings: ServerConnection.ISettings) {
    const url = URLExt.join(_settings.wsUrl, 'raybook', 'ws');
    const full = _settings.appendToken && _settings.token ? `${url}?token=${encodeURIComponent(_settings.token)}` : url;
    this.socket = new Socket(() => new _settings.WebSocket(full) as unknown as IWire);
  }

  /** Null where the server has no raybook, or does not answer. */
  async ping(): Promise<IPing | null> {
    if (this._ping === null || ((await this._ping) === null && Date.now() - this._askedMs > ASK_AGAIN_MS)) {
      this._askedMs = Date.now();
      this._ping = this._ask();
    }
    return this._ping;
  }

  commands(cluster: string, ping: IPing, hooks: IHooks = {}): HttpCommands {
    return new HttpCommands(cluster, (path, body) => this.post(path, body), ping.commands, hooks);
  }

  /** POST JSON to a path below `{base_url}raybook/`. Rejects when there is no answer. */
  async post(path: string, body: object): Promise<{ status: number; json: unknown }> {
    const url = URLExt.join(this._settings.baseUrl, 'raybook', path);
    const init = { method: 'POST', body: JSON.stringify(body) };
    const response = await ServerConnection.makeRequest(url, init, this._settings);
    return { status: response.status, json: await response.json().catch(() => null) };
  }

  private async _ask(): Promise<IPing | null> {
    try {
      const url = URLExt.join(this._settings.baseUrl, 'raybook', 'ping');
      const response = await ServerConnection.makeRequest(url, {}, this._settings);
      const answer = response.ok ? ((await response.json()) as Partial<IPing>) : {};
      return response.ok ? { ws: answer.ws === true, commands: answer.commands ?? [] } : null;
    } catch {
      return null; // No network is as good as no answer: views show what they have.
    }
  }
}

const LINKS = new WeakMap<ServerConnection.ISettings, ServerLink>();

/** The page's one link through these settings. */
export function linkOf(settings: ServerConnection.ISettings): ServerLink {
  let link = LINKS.get(settings);
  if (link === undefined) {
    link = new ServerLink(settings);
    LINKS.set(settings, link);
  }
  return link;
}
