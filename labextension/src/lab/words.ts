/**
 * Words of the sidebar and of menus: decides what is said of a cluster. Pure, so each sentence is tested without a browser.
 */
import { IClusterRecord, resourceWords } from '../state/describe.js';

/** The code that connects a notebook to a cluster. JSON's string is Python's, too. */
export function connectCode(record: IClusterRecord): string {
  return `import raybook as ray\n\nray.init(address=${JSON.stringify(record.name || record.cluster_id)})`;
}

export function titleOf(record: IClusterRecord): string {
  return record.name || `cluster ${record.cluster_id.slice(0, 8)}`;
}

export function minutesWords(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  return whole < 120 ? `${whole} s` : `${Math.round(whole / 60)} min`;
}

/** How long it lives: with whom, or until when. path: of the notebook whose kernel owns it, if it is open here. */
export function lifeWords(record: IClusterRecord, path: string | undefined, nowMs: number): string {
  if (!record.persist) {
    const owner = path ?? (record.owner_kernel_id ? 'another notebook' : 'a script');
    return `Ends with ${owner}`;
  }
  const timeout = record.idle_timeout_s ?? 0;
  if (timeout <= 0) {
    return 'Stays until it is stopped';
  }
  const since = record.idle_since_unix_ms ?? 0;
  return since > 0
    ? `Idle, ends in ${minutesWords(timeout - (nowMs - since) / 1000)}`
    : `Ends when idle for ${minutesWords(timeout)}`;
}

export function factWords(record: IClusterRecord): string {
  const resources = resourceWords(record.resources);
  return [resources, `Python ${record.python_version}`, `raybook ${record.raybook_version}`].filter(Boolean).join(' · ');
}

/** What differs from what the page's own kernel or server has, when it matters. */
export function versionWarning(record: IClusterRecord, all: IClusterRecord[]): string | null {
  const newest = all.map(each => each.raybook_version).sort().pop();
  return newest !== undefined && record.raybook_version !== newest
    ? `runs raybook ${record.raybook_version}; another cluster here has ${newest}`
    : null;
}
