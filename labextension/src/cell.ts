/**
 * The view under a cell as an anywidget: for front ends that know widgets but not raybook's JupyterLab extension (VS Code,
 * Colab, a server of another environment). Messages come from the kernel; on a page of a Jupyter server that has raybook,
 * over its WebSocket instead. Bundled into one file, widgets/raybook_widgets/static/cell.js.
 */
import { HttpCommands } from './core/commands.js';
import { mountCard } from './core/mount.js';
import { IOptions } from './core/panel.js';
import { Socket } from './core/socket.js';
import { ICommands, ISaid, ISource, Status } from './core/source.js';
import { IMessage, PanelState } from './core/state.js';

/** The part of anywidget's model that is used. */
interface IModel {
  get(name: string): unknown;
  on(event: string, handler: (content: unknown) => void): void;
  off(event: string, handler: (content: unknown) => void): void;
  send(content: object): void;
}

interface ISaidByKernel {
  op: 'said';
  id: number;
  ok: boolean;
  said: string;
}

/** How long a command through the kernel is waited for before the button says what it waits for. */
const KERNEL_ANSWER_MS = 700;
const PING_MS = 2_000;

/** What has come from the kernel for one widget, whether a view of it is on the page or not. */
class KernelFeed {
  readonly state = new PanelState();
  private _listeners = new Set<(state: PanelState) => void>();
  private _answers = new Map<number, (said: ISaidByKernel) => void>();
  private _nextId = 1;

  constructor(private readonly _model: IModel) {
    _model.on('msg:custom', this._hear);
    // After a page was loaded anew nothing is known; the kernel answers when it can.
    _model.send({ op: 'snapshot' });
  }

  dispose(): void {
    this._model.off('msg:custom', this._hear);
  }

  source(): ISource {
    return {
      status: 'live' as Status,
      onStatus: () => () => undefined,
      subscribe: (_panel, _filter, listener) => {
        this._listeners.add(listener);
        if (!this.state.isEmpty) {
          listener(this.state);
        }
        return { refilter: () => undefined, dispose: () => void this._listeners.delete(listener) };
      }
    };
  }

  commands(): ICommands {
    return {
      viaKernel: true,
      can: name => (this._model.get('commands') as string[]).includes(name),
      run: (name, body) =>
        new Promise<ISaid>(resolve => {
          const id = this._nextId++;
          const waits = setTimeout(
            () => resolve({ ok: true, waits: true, said: 'Applies when the cell ends; to act now, interrupt the kernel.' }),
            KERNEL_ANSWER_MS
          );
          this._answers.set(id, answer => {
            clearTimeout(waits);
            resolve(answer);
          });
          this._model.send({ op: 'command', id, name, body });
        })
    };
  }

  private readonly _hear = (content: unknown): void => {
    const message = content as IMessage & Partial<ISaidByKernel>;
    if (message.op === 'said') {
      this._answers.get(message.id as number)?.(message as ISaidByKernel);
      this._answers.delete(message.id as number);
    } else if (this.state.apply(message)) {
      this._listeners.forEach(listener => listener(this.state));
    } else {
      this._model.send({ op: 'snapshot' });
    }
  };
}

interface IServer {
  socket: Socket;
  commands: string[];
  post(path: string, body: object): Promise<{ status: number; json: unknown }>;
}

let server: Promise<IServer | null> | null = null;

/** The page's own Jupyter server, if it has one that knows raybook. Asked once a page. */
function findServer(): Promise<IServer | null> {
  server ??= (async () => {
    const element = document.getElementById('jupyter-config-data');
    if (element === null) {
      return null;
    }
    const config = JSON.parse(element.textContent || '{}') as { baseUrl?: string; wsUrl?: string; token?: string };
    const base = new URL(`${config.baseUrl ?? '/'}raybook/`, location.href);
    const headers: Record<string, string> = config.token ? { Authorization: `token ${config.token}` } : {};
    const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/);
    if (xsrf !== null) {
      headers['X-XSRFToken'] = xsrf[1];
    }
    const answer = await fetch(new URL('ping', base), { headers, signal: AbortSignal.timeout(PING_MS) });
    const ping = answer.ok ? ((await answer.json()) as { ws?: boolean; commands?: string[] }) : {};
    if (!ping.ws) {
      return null;
    }
    const ws = new URL('ws', base);
    ws.protocol = ws.protocol.replace('http', 'ws');
    if (config.token) {
      ws.searchParams.set('token', config.token);
    }
    return {
      socket: new Socket(() => new WebSocket(ws) as never),
      commands: ping.commands ?? [],
      post: async (path: string, body: object) => {
        const init = { method: 'POST', headers: { ...headers, 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
        const response = await fetch(new URL(path, base), init);
        return { status: response.status, json: await response.json().catch(() => null) };
      }
    };
  })().catch(() => null); // No server is as good as one without raybook: the kernel's messages remain.
  return server;
}

const FEEDS = new WeakMap<IModel, KernelFeed>();

function feedOf(model: IModel): KernelFeed {
  let feed = FEEDS.get(model);
  if (feed === undefined) {
    feed = new KernelFeed(model);
    FEEDS.set(model, feed);
  }
  return feed;
}

export default {
  initialize({ model }: { model: IModel }): () => void {
    const feed = feedOf(model);
    return () => {
      feed.dispose();
      FEEDS.delete(model);
    };
  },

  render({ model, el }: { model: IModel; el: HTMLElement }): () => void {
    const feed = feedOf(model);
    const options: IOptions = {
      runId: (model.get('run_id') as string) || undefined,
      cellId: (model.get('cell') as string) || undefined,
      kernelId: (model.get('kernel_id') as string) || undefined
    };
    const panels = model.get('panels') as string[];
    const cluster = model.get('cluster_id') as string;
    // From the kernel at once; over the server as soon as it has shown the cluster.
    let unmount = mountCard(panels, el, feed.source(), feed.commands(), options);
    let stopTrying = (): void => undefined;
    let isGone = false;
    void findServer().then(found => {
      if (found === null || !cluster || isGone) {
        return;
      }
      const source = found.socket.source(cluster);
      const trial = source.subscribe('overview', {}, () => {
        stopTrying();
        if (!isGone) {
          unmount();
          unmount = mountCard(panels, el, source, new HttpCommands(cluster, found.post, found.commands), options);
        }
      });
      stopTrying = () => trial.dispose();
    });
    return () => {
      isGone = true;
      stopTrying();
      unmount();
    };
  }
};
