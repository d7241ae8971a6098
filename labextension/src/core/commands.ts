/**
 * Commands over HTTP: POST `{base_url}raybook/clusters/<id>/<command>`, which reaches the cluster past a busy kernel.
 */
import { CommandName, ICommands, ISaid } from './source.js';

export interface IAnswer {
  status: number;
  json: unknown;
}

/** POST to a path below `{base_url}raybook/`. Rejects when there was no answer at all. */
export type Post = (path: string, body: object) => Promise<IAnswer>;

export class HttpCommands implements ICommands {
  insertCell?: (code: string) => void;
  revealCell?: (cell: string) => void;

  /** available: the commands that the server says it can do. */
  constructor(
    private readonly _cluster: string,
    private readonly _post: Post,
    private readonly _available: readonly string[],
    hooks: { insertCell?: (code: string) => void; revealCell?: (cell: string) => void } = {}
  ) {
    this.insertCell = hooks.insertCell;
    this.revealCell = hooks.revealCell;
  }

  can(name: CommandName): boolean {
    return this._available.includes(name);
  }

  async run(name: CommandName, body: Record<string, unknown>): Promise<ISaid> {
    try {
      const { status, json } = await this._post(`clusters/${encodeURIComponent(this._cluster)}/${name}`, body);
      const answer = (json ?? {}) as { said?: string; what?: string; next?: string; message?: string };
      if (status >= 200 && status < 300) {
        return { ok: true, said: answer.said ?? 'Done.' };
      }
      const what = answer.what ?? answer.message ?? `The Jupyter server answered ${status}.`;
      return { ok: false, said: `${name} did not work: ${what}`, next: answer.next };
    } catch (reason) {
      const what = reason instanceof Error ? reason.message : String(reason);
      return { ok: false, said: `${name} did not reach the Jupyter server: ${what}.`, next: 'Nothing was changed; try again.' };
    }
  }
}
