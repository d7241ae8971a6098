/**
 * What a panel needs of the world: a source of states and a way to command. Interfaces only.
 */
import { PanelName } from './schema.js';
import { PanelState } from './state.js';

/** What a panel asks of the sender; the fields of `PanelFilter` in runtime/raybook/observe/panels.py. */
export interface IFilter {
  text?: string;
  state?: string;
  experiment_id?: string;
  node_id?: string;
  actor_id?: string;
  trial_id?: string;
  level?: string;
  rows_max?: number;
}

/** Whose move it is when a source or a command fails: what happened, and what to do next. */
export interface IFailure {
  what: string;
  next?: string;
}

export interface ISubscription {
  /** Ask for other rows from now on. */
  refilter(filter: IFilter): void;
  dispose(): void;
}

/** `live`: messages come. `waiting`: not connected, trying. `over`: nothing will come any more. */
export type Status = 'live' | 'waiting' | 'over';

export interface ISource {
  readonly status: Status;
  /** Calls back when the status changes, until the returned function is called. */
  onStatus(listener: (status: Status) => void): () => void;
  subscribe(
    panel: PanelName,
    filter: IFilter,
    listener: (state: PanelState) => void,
    failed?: (failure: IFailure) => void
  ): ISubscription;
}

export type CommandName =
  | 'cancel' | 'kill' | 'stop-trial' | 'pause-trial' | 'resume-trial' | 'clone-trial' | 'scale' | 'stop' | 'persist'
  | 'release';

export interface ISaid {
  ok: boolean;
  said: string;
  /** What to do next, when it did not work. */
  next?: string;
  /** It waits for the kernel: nothing has happened yet. */
  waits?: boolean;
}

export interface ICommands {
  /** Buttons of commands that cannot be given are not drawn. */
  can(name: CommandName): boolean;
  /** Never rejects: a failure is an answer. */
  run(name: CommandName, body: Record<string, unknown>): Promise<ISaid>;
  /** Commands go through the kernel, which may be busy: buttons say so. */
  readonly viaKernel?: boolean;
  /** Put a cell with this code below the active one. */
  insertCell?(code: string): void;
  /** Show the cell that submitted something. */
  revealCell?(cell: string): void;
}

/** For pictures that cannot be acted upon. */
export const NO_COMMANDS: ICommands = {
  can: () => false,
  run: async () => ({ ok: false, said: 'There is no way from here to the cluster.' })
};
