/**
 * State of a panel in the page: messages in, values and tables of rows out. Pure: no DOM, no network, no clock.
 *
 * A snapshot replaces everything; a delta brings whole rows that replace earlier ones, and keys that went. Invariants: a
 * delta is applied only on the version it was made from, else nothing changes and the caller is told to subscribe anew; a
 * table keeps the order in which its keys were first heard of. Made by runtime/raybook/observe/panels.py.
 */
import {
  DEFAULTS, IActorRow, IDeploymentRow, IExperimentRow, IGpuRow, IHolderRow, ILogRow, INodeRow, IObjectRow, IResourceRow, IScalingRow,
  IProgressRow, IReplicaRow, IStoreRow, ITaskGroupRow, ITaskRow, ITrainRow, ITrainWorkerRow, ITrialRow
} from './schema.js';

export interface ITables {
  nodes: INodeRow;
  task_groups: ITaskGroupRow;
  progress: IProgressRow;
  actors: IActorRow;
  stores: IStoreRow;
  objects: IObjectRow;
  experiments: IExperimentRow;
  trials: ITrialRow;
  tasks: ITaskRow;
  trains: ITrainRow;
  deployments: IDeploymentRow;
  logs: ILogRow;
}

export interface IValues {
  schema_version: number;
  facts_version: number;
  cluster_name: string;
  cluster_state: string;
  resources: IResourceRow[];
  nodes_hidden: number;
  task_groups_hidden: number;
  progress_hidden: number;
  tasks_total: ITaskGroupRow;
  actors_hidden: number;
  actors_by_state: Record<string, number>;
  store_total: IStoreRow;
  scaling: IScalingRow | null;
}

export interface IBody {
  values: Record<string, unknown>;
  tables: Record<string, Record<string, object>>;
  gone?: Record<string, string[]>;
  more?: number;
}

export interface IMessage {
  version: number;
  now_ms?: number;
  since?: number;
  snapshot?: IBody;
  delta?: IBody;
}

type RowDefaults = Record<string, unknown>;

const ROWS: Record<keyof ITables, RowDefaults> = {
  nodes: DEFAULTS.NodeRow,
  task_groups: DEFAULTS.TaskGroupRow,
  progress: DEFAULTS.ProgressRow,
  actors: DEFAULTS.ActorRow,
  stores: DEFAULTS.StoreRow,
  objects: DEFAULTS.ObjectRow,
  experiments: DEFAULTS.ExperimentRow,
  trials: DEFAULTS.TrialRow,
  tasks: DEFAULTS.TaskRow,
  trains: DEFAULTS.TrainRow,
  deployments: DEFAULTS.DeploymentRow,
  logs: DEFAULTS.LogRow
};

const NO_VALUES: IValues = {
  schema_version: 0,
  facts_version: 0,
  cluster_name: '',
  cluster_state: 'RUNNING',
  resources: [],
  nodes_hidden: 0,
  task_groups_hidden: 0,
  progress_hidden: 0,
  tasks_total: { ...DEFAULTS.TaskGroupRow, name: 'all' },
  actors_hidden: 0,
  actors_by_state: {},
  store_total: { ...DEFAULTS.StoreRow, node_id: 'all' },
  scaling: null
};

/** Fields that are records themselves, whose defaults the wire leaves out, too. */
function whole(table: string, row: RowDefaults): object {
  const full: RowDefaults = { ...ROWS[table as keyof ITables], ...row };
  if (table === 'nodes') {
    full.gpus = (full.gpus as IGpuRow[]).map(gpu => ({ ...DEFAULTS.GpuRow, ...gpu }));
    full.holders = (full.holders as IHolderRow[]).map(holder => ({ ...DEFAULTS.HolderRow, ...holder }));
  }
  if (table === 'trains') {
    full.workers = (full.workers as ITrainWorkerRow[]).map(worker => ({ ...DEFAULTS.TrainWorkerRow, ...worker }));
  }
  if (table === 'deployments') {
    full.replicas = (full.replicas as IReplicaRow[]).map(replica => ({ ...DEFAULTS.ReplicaRow, ...replica }));
  }
  return full;
}

function wholeValue(name: string, value: unknown): unknown {
  switch (name) {
    case 'tasks_total':
      return { ...DEFAULTS.TaskGroupRow, ...(value as object) };
    case 'store_total':
      return { ...DEFAULTS.StoreRow, ...(value as object) };
    case 'scaling':
      return value === null ? null : { ...DEFAULTS.ScalingRow, ...(value as object) };
    default:
      return value;
  }
}

export class PanelState {
  values: IValues = { ...NO_VALUES };
  version = 0;
  /** Rows that are still on their way. */
  more = 0;
  /** The head's clock at the last message, and the page's when it came; for running times. */
  nowMs = 0;
  private _tables = new Map<string, Map<string, object>>();
  private _lists = new Map<string, object[]>();

  /** Whether anything is known yet. */
  get isEmpty(): boolean {
    return this.version === 0;
  }

  /** The rows of a table, in the order of first hearing. The same array until the table changes. */
  rows<T extends keyof ITables>(table: T): ITables[T][] {
    let list = this._lists.get(table);
    if (list === undefined) {
      list = [...(this._tables.get(table)?.values() ?? [])];
      this._lists.set(table, list);
    }
    return list as ITables[T][];
  }

  /** Take in a message. False: something between was lost, subscribe anew. */
  apply(message: IMessage): boolean {
    const { snapshot, delta } = message;
    if (snapshot !== undefined) {
      this.values = { ...NO_VALUES };
      this._tables = new Map();
      this._lists = new Map();
      this._take(snapshot);
    } else if (delta !== undefined) {
      if (message.since !== this.version) {
        return message.version <= this.version; // Seen before: nothing to do, nothing lost.
      }
      this._take(delta);
    } else {
      return true;
    }
    this.version = message.version;
    this.nowMs = message.now_ms ?? this.nowMs;
    return true;
  }

  private _take(body: IBody): void {
    for (const [name, value] of Object.entries(body.values ?? {})) {
      if (name in NO_VALUES) {
        (this.values as unknown as Record<string, unknown>)[name] = wholeValue(name, value);
      }
    }
    for (const [table, keys] of Object.entries(body.gone ?? {})) {
      keys.forEach(key => this._tables.get(table)?.delete(key));
      this._lists.delete(table);
    }
    for (const [table, rows] of Object.entries(body.tables ?? {})) {
      if (!(table in ROWS)) {
        continue; // A newer server knows more than this page.
      }
      const known = this._tables.get(table) ?? new Map<string, object>();
      for (const [key, row] of Object.entries(rows)) {
        known.set(key, whole(table, row as RowDefaults));
      }
      this._tables.set(table, known);
      this._lists.delete(table);
    }
    this.more = body.more ?? 0;
  }
}
