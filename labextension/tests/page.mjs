// A page without a browser, and sources and commands that tests hold in their hands.
import { parseHTML } from 'linkedom';

import { PanelState } from '../lib/core/state.js';

export function page() {
  const { document } = parseHTML('<!doctype html><html><head></head><body><div id="at"></div></body></html>');
  globalThis.requestAnimationFrame = draw => draw();
  return document.querySelector('#at');
}

/** A source that says what the test tells it. */
export class HandSource {
  status = 'live';
  asked = [];
  version = 0;

  onStatus(listener) {
    this.told = listener;
    return () => (this.told = undefined);
  }

  subscribe(panel, filter, listener, failed) {
    this.asked.push({ panel, filter });
    this.state = new PanelState();
    this.failed = failed;
    this.listener = listener;
    return { refilter: next => this.asked.push({ panel, filter: next }), dispose: () => (this.isDisposed = true) };
  }

  snapshot(tables, values = {}) {
    this.version += 1;
    this.state.apply({ version: this.version, now_ms: 1_000_000, snapshot: { tables, values } });
    this.listener(this.state);
  }

  delta(tables, values = {}, gone = {}) {
    this.state.apply({ version: this.version + 1, since: this.version, delta: { tables, values, gone } });
    this.version += 1;
    this.listener(this.state);
  }
}

/** Commands that are written down. */
export class HandCommands {
  given = [];
  answer = { ok: true, said: 'Done.' };

  constructor(...names) {
    this.names = names;
  }

  can(name) {
    return this.names.includes(name);
  }

  async run(name, body) {
    this.given.push([name, body]);
    return this.answer;
  }
}

export function byKey(rows, key) {
  return Object.fromEntries(rows.map(row => [typeof key === 'function' ? key(row) : row[key], row]));
}

export function trials(count, fields = () => ({})) {
  const rows = [...Array(count).keys()].map(n => ({
    experiment_id: 'run-1',
    trial_id: `t${n}`,
    state: 'RUNNING',
    value: n / count,
    step: 3,
    history: [0, n / 2, n],
    config: { lr: 10 ** -(n % 5), width: 16 * n, act: n % 2 ? 'relu' : 'tanh' },
    ...fields(n)
  }));
  return byKey(rows, row => `${row.experiment_id} ${row.trial_id}`);
}

export const SWEEP = { 'run-1': { experiment_id: 'run-1', name: 'digits', metric: 'accuracy', trials_total: 8, best_value: 0.875, best_trial_id: 't7' } };
