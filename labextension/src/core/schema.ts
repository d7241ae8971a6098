/**
 * The rows of panels, made from the Python schema (runtime/raybook/observe/schema.py). Do not edit; run
 *     PYTHONPATH=runtime python -m raybook.observe labextension/
 * after a change there. A field that equals its default is left out on the wire; `DEFAULTS` puts it back.
 */
/* eslint-disable */

export const VIEW_SCHEMA_VERSION = 1;

export const PANEL_NAMES = ["overview", "tasks", "actors", "objects", "nodes", "tune", "train", "serve", "logs"] as const;
export type PanelName = (typeof PANEL_NAMES)[number];

export interface IActorRow {
  actor_id: string;
  class_name: string;
  state: string;
  name: string;
  pid: number;
  node_id: string;
  restarts: number;
  calls_pending: number | null;
  calls_done: number | null;
  waiting: string;
  rate_per_s: number;
  cell: string;
  stale: string;
  death: string;
  resources: Record<string, number>;
}

export interface IDeploymentRow {
  app: string;
  app_status: string;
  name: string;
  status: string;
  route_prefix: string;
  message: string;
  is_ingress: boolean;
  replicas_wanted: number;
  queued: number;
  requests: number;
  errors: number;
  qps: number;
  p50_ms: number;
  p95_ms: number;
  p99_ms: number;
  decisions: string[];
  replicas: IReplicaRow[];
}

export interface IExperimentRow {
  experiment_id: string;
  name: string;
  state: string;
  metric: string;
  mode: string;
  trials_total: number;
  trials_done: number;
  trials_running: number;
  trials_failed: number;
  trials_stopped: number;
  best_trial_id: string;
  best_value: number | null;
  best_parameters: string;
  trials: ITrialRow[];
  trials_hidden: number;
  seconds: number;
}

export interface IGpuRow {
  index: string;
  utilization: number;
  memory_used_bytes: number;
  memory_total_bytes: number;
}

export interface IHolderRow {
  name: string;
  actor_id: string;
  cell: string;
  resources: Record<string, number>;
}

export interface ILogRow {
  key: string;
  line: string;
  source: string;
  level: string;
  pid: number;
  name: string;
  node_id: string;
  cell: string;
}

export interface INodeRow {
  node_id: string;
  alive: boolean;
  address: string;
  pid: number;
  resources: IResourceRow[];
  cpu_percent: number;
  memory_used_bytes: number;
  draining: string;
  left: boolean;
  hostname: string;
  is_head: boolean;
  death: string;
  gpus: IGpuRow[];
  holders: IHolderRow[];
}

export interface IObjectRow {
  object_id: string;
  size_bytes: number;
  owner_pid: number;
  name: string;
  kind: string;
  references: number;
  borrowers: number;
  holders: string[];
  cell: string;
}

export interface IProgressRow {
  progress_id: string;
  name: string;
  done: number;
  total: number;
  unit: string;
  pid: number;
  over: boolean;
  rate_per_s: number;
}

export interface IReplicaRow {
  replica_id: string;
  state: string;
  pid: number;
  node_id: string;
  ongoing: number;
  errors: number;
  qps: number;
  p50_ms: number;
  p95_ms: number;
  p99_ms: number;
}

export interface IResourceRow {
  name: string;
  used: number;
  total: number;
}

export interface IScalingRow {
  bounds: string[];
  pending: string[];
  decision: string;
  unmet: string[];
  failures: string[];
  notes: string[];
}

export interface IStoreRow {
  node_id: string;
  used_bytes: number;
  capacity_bytes: number;
  objects: number;
}

export interface ITaskGroupRow {
  name: string;
  pending: number;
  running: number;
  finished: number;
  failed: number;
  cancelled: number;
  mean_us: number;
  rate_per_s: number;
}

export interface ITaskRow {
  task_id: string;
  name: string;
  state: string;
  worker_pid: number;
  node_id: string;
  duration_ms: number | null;
  error: string;
  started_ms: number;
  ended_ms: number;
  cell: string;
}

export interface ITrainRow {
  run_id: string;
  name: string;
  state: string;
  error: string;
  attempt: number;
  workers_wanted: number;
  workers: ITrainWorkerRow[];
  reports: number;
  step_ms: number;
  metric: string;
  value: number | null;
  metrics: Record<string, number>;
  history: number[];
  checkpoints: string[];
  latest_checkpoint: string;
  started_ms: number;
  ended_ms: number;
}

export interface ITrainWorkerRow {
  rank: number;
  node_id: string;
  hostname: string;
  pid: number;
  gpus: string[];
}

export interface ITrialRow {
  trial_id: string;
  state: string;
  name: string;
  value: number | null;
  step: number;
  step_max: number;
  history: number[];
  best: boolean;
  parameters: string;
  error: string;
  seconds: number;
  experiment_id: string;
  config: Record<string, number | string | boolean | null>;
  resources: Record<string, number>;
}

export interface IView {
  schema_version: number;
  facts_version: number;
  cluster_name: string;
  cluster_state: string;
  resources: IResourceRow[];
  nodes: INodeRow[];
  nodes_hidden: number;
  task_groups: ITaskGroupRow[];
  task_groups_hidden: number;
  tasks_total: ITaskGroupRow;
  tasks: ITaskRow[];
  actors: IActorRow[];
  actors_hidden: number;
  actors_by_state: Record<string, number>;
  stores: IStoreRow[];
  store_total: IStoreRow;
  objects: IObjectRow[];
  experiments: IExperimentRow[];
  moving: boolean;
  scaling: IScalingRow | null;
  progress: IProgressRow[];
  progress_hidden: number;
}

export const DEFAULTS = {
  ActorRow: {"name": "", "pid": 0, "node_id": "", "restarts": 0, "calls_pending": null, "calls_done": null, "waiting": "", "rate_per_s": 0.0, "cell": "", "stale": "", "death": "", "resources": {}},
  DeploymentRow: {"route_prefix": "", "message": "", "is_ingress": false, "replicas_wanted": 0, "queued": 0, "requests": 0, "errors": 0, "qps": 0.0, "p50_ms": 0.0, "p95_ms": 0.0, "p99_ms": 0.0, "decisions": [], "replicas": []},
  ExperimentRow: {"state": "RUNNING", "metric": "", "mode": "max", "trials_total": 0, "trials_done": 0, "trials_running": 0, "trials_failed": 0, "trials_stopped": 0, "best_trial_id": "", "best_value": null, "best_parameters": "", "trials": [], "trials_hidden": 0, "seconds": 0.0},
  GpuRow: {"utilization": 0.0, "memory_used_bytes": 0, "memory_total_bytes": 0},
  HolderRow: {"actor_id": "", "cell": "", "resources": {}},
  LogRow: {"source": "stdout", "level": "", "pid": 0, "name": "", "node_id": "", "cell": ""},
  NodeRow: {"alive": true, "address": "", "pid": 0, "resources": [], "cpu_percent": 0.0, "memory_used_bytes": 0, "draining": "", "left": false, "hostname": "", "is_head": false, "death": "", "gpus": [], "holders": []},
  ObjectRow: {"size_bytes": 0, "owner_pid": 0, "name": "", "kind": "", "references": 0, "borrowers": 0, "holders": [], "cell": ""},
  ProgressRow: {"done": 0.0, "total": 0.0, "unit": "", "pid": 0, "over": false, "rate_per_s": 0.0},
  ReplicaRow: {"pid": 0, "node_id": "", "ongoing": 0, "errors": 0, "qps": 0.0, "p50_ms": 0.0, "p95_ms": 0.0, "p99_ms": 0.0},
  ResourceRow: {},
  ScalingRow: {"bounds": [], "pending": [], "decision": "", "unmet": [], "failures": [], "notes": []},
  StoreRow: {"used_bytes": 0, "capacity_bytes": 0, "objects": 0},
  TaskGroupRow: {"pending": 0, "running": 0, "finished": 0, "failed": 0, "cancelled": 0, "mean_us": 0.0, "rate_per_s": 0.0},
  TaskRow: {"worker_pid": 0, "node_id": "", "duration_ms": null, "error": "", "started_ms": 0.0, "ended_ms": 0.0, "cell": ""},
  TrainRow: {"error": "", "attempt": 0, "workers_wanted": 0, "workers": [], "reports": 0, "step_ms": 0.0, "metric": "", "value": null, "metrics": {}, "history": [], "checkpoints": [], "latest_checkpoint": "", "started_ms": 0.0, "ended_ms": 0.0},
  TrainWorkerRow: {"node_id": "", "hostname": "", "pid": 0, "gpus": []},
  TrialRow: {"name": "", "value": null, "step": 0, "step_max": 0, "history": [], "best": false, "parameters": "", "error": "", "seconds": 0.0, "experiment_id": "", "config": {}, "resources": {}},
} as const;
