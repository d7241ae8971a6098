/**
 * What the chip says: decides the words for every state a notebook's cluster can be in. Pure: no DOM, no clock, no
 * network, so each sentence is tested without a browser. Invariant: nothing is claimed that the server did not say.
 */

/** One cluster as `GET raybook/clusters/by-kernel/<id>` reports it (kernel_ext/raybook_kernel/server/records.py). */
export interface IClusterRecord {
  cluster_id: string;
  name: string;
  address: string;
  persist: boolean;
  /** Whose kernel it lives with; null when it stays, or belongs to a script. */
  owner_kernel_id?: string | null;
  /** It ends after so many seconds without work; 0: never. */
  idle_timeout_s?: number;
  /** Since when nothing works on it; 0: something does. */
  idle_since_unix_ms?: number;
  env_prefix: string;
  python_version: string;
  raybook_version: string;
  /** Resource name to amount, in whole units: `{CPU: 2, GPU: 0.5}`. */
  resources: Record<string, number>;
}

/** Everything the chip can know. `asking` is before the first answer; `ended` is after a cluster that was seen. */
export type ChipState =
  | { kind: 'asking' }
  | { kind: 'no-kernel' }
  | { kind: 'no-extension' }
  | { kind: 'unreachable'; reason: string }
  | { kind: 'no-cluster' }
  | { kind: 'ended'; name: string }
  | { kind: 'cluster'; record: IClusterRecord };

/** The words of the chip, its tooltip, and the name its colour hangs on. */
export interface IChipWords {
  text: string;
  tooltip: string;
  tone: 'quiet' | 'good' | 'bad';
}

/** Amounts people count first come first; the rest follows by name. `node:` and memory entries stay out of the chip. */
export function resourceWords(resources: Record<string, number>): string {
  const shown = Object.keys(resources).filter(
    name => !name.includes('memory') && !name.startsWith('node:') && resources[name] > 0
  );
  const rank = (name: string): number => ({ CPU: 0, GPU: 1 })[name] ?? 2;
  shown.sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  return shown.map(name => `${Number(resources[name].toFixed(2))} ${name}`).join(' · ');
}

export function describe(state: ChipState): IChipWords {
  switch (state.kind) {
    case 'asking':
      return { text: 'raybook: …', tooltip: 'Asking the Jupyter server for the clusters of this kernel.', tone: 'quiet' };
    case 'no-kernel':
      return { text: 'raybook: no kernel', tooltip: 'This notebook has no running kernel.', tone: 'quiet' };
    case 'no-extension':
      return {
        text: 'raybook: server part missing',
        tooltip:
          'The Jupyter server does not know raybook. Install raybook in the environment that runs JupyterLab, then restart it.',
        tone: 'bad'
      };
    case 'unreachable':
      return {
        text: 'raybook: server not answering',
        tooltip: `The Jupyter server did not answer: ${state.reason}. Asking again.`,
        tone: 'bad'
      };
    case 'no-cluster':
      return {
        text: 'raybook: no cluster',
        tooltip: 'This kernel owns no cluster. Start one with %ray_cluster start, or with raybook.init().',
        tone: 'quiet'
      };
    case 'ended':
      return {
        text: 'raybook: cluster ended',
        tooltip: `The cluster ${state.name} of this kernel no longer runs. Start a new one with %ray_cluster start.`,
        tone: 'quiet'
      };
    case 'cluster': {
      const { record } = state;
      const where = `${record.name} at ${record.address}\nPython ${record.python_version}, raybook ${record.raybook_version}\n${record.env_prefix}`;
      const life = record.persist ? 'Stays when the kernel ends.' : 'Ends with this kernel.';
      const words = resourceWords(record.resources);
      return { text: words === '' ? 'raybook: running' : `raybook: ${words}`, tooltip: `${where}\n${life}`, tone: 'good' };
    }
  }
}
