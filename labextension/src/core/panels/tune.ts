/**
 * Tune: each sweep with its learning curves, parallel coordinates of its parameters, and its trials. A range on an axis
 * chooses trials, and those can be stopped at once.
 */
import { Child, h, VNode } from '../dom.js';
import { IContext, IPanel } from '../panel.js';
import { button, note, sharedScale, span } from '../parts.js';
import { IExperimentRow, ITrialRow } from '../schema.js';
import { experiment, ITuneUi, NOTHING_SET, OVER, sweep, sweeps, trialsOf } from '../sections/trial_table.js';
import { curves, IBrush, isBrushed, parallel } from './parallel.js';

interface IUi extends ITuneUi {
  brush: IBrush | null;
}

export const tune: IPanel<IUi> = {
  title: 'Tune',
  begin: () => ({ ...NOTHING_SET, brush: null }),
  draw: context => {
    const rows = sweeps(context);
    return rows.length > 0 ? rows.map(row => sweep(row, cockpit(context, row))) : [note('No sweep has begun yet.')];
  }
};

function cockpit(context: IContext<IUi>, row: IExperimentRow): Child[] {
  const { brush } = context.ui;
  const trials = trialsOf(context, row);
  const [low, high] = sharedScale(trials.map(trial => trial.history));
  const isShown = (trial: ITrialRow): boolean => brush === null || isBrushed(trial, brush);
  const pictures = [
    curves(row, trials, low, high),
    parallel(trials, row, brush, next => context.set({ brush: next })),
    brush === null ? null : brushed(context, row, trials.filter(isShown))
  ];
  return experiment(context, row, trials, pictures, isShown);
}

function brushed(context: IContext<IUi>, row: IExperimentRow, shown: ITrialRow[]): VNode {
  const open = shown.filter(trial => !OVER.has(trial.state)).map(trial => trial.trial_id);
  return h(
    'div',
    { class: 'rb-tools' },
    span(`${shown.length} trials in the range`, 'rb-dim rb-small'),
    open.length > 0
      ? stopAll(context, row.experiment_id, open)
      : null,
    button('Clear', () => context.set({ brush: null }), { title: 'Show all trials again' })
  );
}

function stopAll(context: IContext<IUi>, run: string, trials: string[]): VNode | null {
  if (!context.commands.can('stop-trial')) {
    return null;
  }
  const stop = (): void => trials.forEach(trial => context.give('stop-trial', { run_id: run, trial_id: trial }));
  return button(`Stop these ${trials.length}`, stop, { title: 'Stop the trials in the range that still run', 'data-command': 'stop-trial' });
}

