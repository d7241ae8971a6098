/**
 * Sweeps with their trials in tables: a sparkline of the metric for each, the best marked, and what can be done about a
 * trial: stop, pause, go on, clone with edited values; the best config becomes a cell.
 */
import { Child, h, VNode } from '../dom.js';
import { amountsText, durationText, metricText } from '../format.js';
import { IContext, IPanel } from '../panel.js';
import { bar, button, chip, columns, commandButton, note, sharedScale, span, sparkline } from '../parts.js';
import { IExperimentRow, ITrialRow } from '../schema.js';
import { cloneForm } from './clone.js';

export interface ITuneUi {
  by: string;
  down: boolean;
  /** The trial being cloned, and what its values were edited to. */
  cloning: string;
  edited: Record<string, string>;
}

export const NOTHING_SET: ITuneUi = { by: '', down: false, cloning: '', edited: {} };

type Config = ITrialRow['config'];

const ROWS_MAX = 200;
const TONES: Record<string, string> = { RUNNING: 'run', PENDING: 'dim', PAUSED: 'warn', ERROR: 'bad', FAILED: 'bad', STOPPED: 'dim' };
const WORDS: Record<string, string> = { TERMINATED: 'done', COMPLETED: 'done', FINISHED: 'done', ERROR: 'failed', PENDING: 'waiting' };
export const OVER = new Set(['TERMINATED', 'STOPPED', 'COMPLETED', 'FINISHED', 'ERROR', 'FAILED', 'DONE']);

export const trialTable: IPanel<ITuneUi> = {
  title: 'Tune',
  begin: () => NOTHING_SET,
  draw: context => sweeps(context).map(row => sweep(row, experiment(context, row, trialsOf(context, row), [])))
};

/** The sweeps that this view is about. */
export function sweeps(context: IContext<ITuneUi>): IExperimentRow[] {
  const { runId } = context.options;
  return context.state.rows('experiments').filter(row => !runId || row.experiment_id === runId);
}

export function trialsOf(context: IContext<ITuneUi>, row: IExperimentRow): ITrialRow[] {
  return context.state.rows('trials').filter(trial => trial.experiment_id === row.experiment_id);
}

export function sweep(row: IExperimentRow, children: Child[]): VNode {
  return h('div', { class: 'rb-experiment', key: row.experiment_id, 'data-experiment': row.experiment_id }, children);
}

/** A sweep with its trials. pictures: between its bar and its table. isShown: which trials the table has. */
export function experiment(
  context: IContext<ITuneUi>,
  row: IExperimentRow,
  trials: ITrialRow[],
  pictures: Child[],
  isShown: (trial: ITrialRow) => boolean = () => true
): Child[] {
  const { ui } = context;
  const [low, high] = sharedScale(trials.map(trial => trial.history));
  const shown = sorted(trials.filter(isShown), ui).slice(0, ROWS_MAX);
  const hidden = row.trials_hidden + trials.length - shown.length;
  const on = (by: string): void => context.set({ by, down: ui.by === by ? !ui.down : row.mode !== 'min' });
  const acts = context.commands.can('stop-trial') || context.commands.can('clone-trial') || context.commands.insertCell !== undefined;
  const titles = [
    { title: 'Trial', sort: 'label' },
    { title: 'State', sort: 'state' },
    { title: row.metric || 'value' },
    { title: '', class: 'rb-num' },
    { title: 'Step', class: 'rb-num', sort: 'step' },
    { title: 'Parameters' },
    ...(acts ? [{ title: '', class: 'rb-num' }] : [])
  ];
  titles[3] = { title: 'last', class: 'rb-num', sort: 'value' };
  const cloned = trials.find(trial => trial.trial_id === ui.cloning);
  return [
    headLine(context, row, trials),
    progress(row),
    ...pictures,
    cloned === undefined ? null : cloneForm(context, row, cloned),
    shown.length > 0
      ? h('div', { class: 'rb-scroll' }, h('table', { class: 'rb-table' }, columns(titles, { by: ui.by, down: ui.down, on }), h('tbody', null, shown.map(trial => trialRow(context, trial, low, high, acts)))))
      : null,
    hidden > 0 ? note(`and ${hidden} more trials`) : null
  ];
}

/** In the order of beginning, or as a head's click says; trials without a value come last either way. */
export function sorted(trials: ITrialRow[], ui: { by: string; down: boolean }): ITrialRow[] {
  if (ui.by === '') {
    return trials;
  }
  const value = (trial: ITrialRow): number | string | null => (ui.by === 'label' ? label(trial) : (trial[ui.by as 'value' | 'step' | 'state'] ?? null));
  return [...trials].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) {
      return x === y ? 0 : x === null ? 1 : -1;
    }
    return (x < y ? -1 : x > y ? 1 : 0) * (ui.down ? -1 : 1);
  });
}

function headLine(context: IContext<ITuneUi>, row: IExperimentRow, trials: ITrialRow[]): VNode {
  const parts = [`${row.trials_done}/${row.trials_total} trials`];
  if (row.trials_running) {
    parts.push(`${row.trials_running} running`);
  }
  if (row.seconds >= 1) {
    parts.push(durationText(Math.floor(row.seconds) * 1e6));
  }
  const best = trials.find(trial => trial.best);
  const { insertCell } = context.commands;
  return h(
    'div',
    { class: 'rb-head' },
    span('Tune', 'rb-title'),
    span(row.name, 'rb-code rb-cut'),
    span(parts.join(' · '), 'rb-dim rb-small'),
    row.trials_failed ? span(`${row.trials_failed} failed`, 'rb-bad rb-small') : null,
    row.best_value === null
      ? null
      : h(
          'span',
          { class: 'rb-small rb-push', title: `${row.mode === 'min' ? 'lowest' : 'highest'} so far: ${row.best_trial_id} ${row.best_parameters}`.trim() },
          span(`best ${row.metric || 'value'} `, 'rb-dim'),
          h('strong', null, metricText(row.best_value))
        ),
    best && insertCell
      ? button('Best config as a cell', () => insertCell(configCode(best.config, 'best_config')), { title: 'Insert a cell with the best trial’s parameters', 'data-command': 'insert-best' })
      : null
  );
}

/** A cell's text: the parameters as a Python dictionary. */
export function configCode(config: Config, name: string): string {
  const lines = Object.entries(config).map(([key, value]) => `    ${pythonText(key)}: ${pythonText(value)},`);
  return [`${name} = {`, ...lines, '}'].join('\n');
}

function pythonText(value: Config[string]): string {
  if (value === null) {
    return 'None';
  }
  if (typeof value === 'boolean') {
    return value ? 'True' : 'False';
  }
  // JSON's strings are Python's.
  return typeof value === 'number' ? String(value) : JSON.stringify(value);
}

function progress(row: IExperimentRow): VNode {
  const whole = Math.max(1, row.trials_total);
  const stretches = [
    { tone: 'good', share: (row.trials_done - row.trials_failed) / whole, word: 'done' },
    { tone: 'bad', share: row.trials_failed / whole, word: 'failed' },
    { tone: 'run', share: row.trials_running / whole, word: 'running' }
  ];
  return h('div', { class: 'rb-progress' }, bar(stretches, `${row.trials_done} of ${row.trials_total} trials done`));
}

function label(trial: ITrialRow): string {
  return trial.name || trial.trial_id;
}

function trialRow(context: IContext<ITuneUi>, trial: ITrialRow, low: number, high: number, acts: boolean): VNode {
  const word = WORDS[trial.state] ?? trial.state.toLowerCase();
  return h(
    'tr',
    { key: trial.trial_id, class: trial.best ? 'rb-best' : undefined, 'data-trial': trial.trial_id },
    h('td', { class: 'rb-cut', title: label(trial) }, h('span', { class: 'rb-star', title: trial.best ? 'best trial' : undefined }, trial.best ? '★' : ''), span(label(trial), 'rb-code')),
    h('td', { title: trial.error || undefined }, chip(word, TONES[trial.state] ?? 'good')),
    h('td', null, sparkline(trial.history, low, high, trial.state === 'RUNNING' || trial.best ? 'run' : 'dim')),
    h('td', { class: 'rb-num' }, metricText(trial.value)),
    h('td', { class: 'rb-num rb-dim' }, trial.step_max ? `${trial.step}/${trial.step_max}` : String(trial.step)),
    h('td', { class: 'rb-wide rb-cut rb-dim rb-small', title: [trial.parameters, amountsText(trial.resources)].filter(Boolean).join('\n') || undefined }, trial.parameters),
    acts ? h('td', { class: 'rb-num rb-acts' }, actions(context, trial)) : null
  );
}

function actions(context: IContext<ITuneUi>, trial: ITrialRow): Child[] {
  const body = { run_id: trial.experiment_id, trial_id: trial.trial_id };
  const name = label(trial);
  const isOver = OVER.has(trial.state);
  return [
    trial.state === 'RUNNING' ? commandButton(context, 'Pause', 'pause-trial', body, `pause trial ${name} at its next report`) : null,
    trial.state === 'PAUSED' ? commandButton(context, 'Go on', 'resume-trial', body, `let trial ${name} go on`) : null,
    isOver ? null : commandButton(context, 'Stop', 'stop-trial', body, `stop trial ${name} at its next report`),
    context.commands.can('clone-trial') && Object.keys(trial.config).length > 0
      ? button('Clone', () => context.set({ cloning: context.ui.cloning === trial.trial_id ? '' : trial.trial_id, edited: {} }), {
          title: `Start a trial like ${name} with other values`,
          'aria-label': `Clone: trial ${name}`,
          'aria-expanded': String(context.ui.cloning === trial.trial_id),
          'data-command': 'clone-trial'
        })
      : null
  ];
}

