/**
 * Parallel coordinates: an axis for each parameter that differs, one for the metric, a line for each trial. Dragging on an
 * axis (or its range fields, by keyboard) chooses trials. Beside it the metric of all trials over their steps, with the
 * best so far.
 */
import { h, VNode } from '../dom.js';
import { metricText } from '../format.js';
import { IExperimentRow, ITrialRow } from '../schema.js';

export interface IBrush {
  axis: string;
  low: number;
  high: number;
}

export interface IAxis {
  name: string;
  /** The words of an axis that is not of numbers, in the order of first use. */
  words: string[];
  low: number;
  high: number;
  isLog: boolean;
}

const METRIC = ' metric';
const AXES_MAX = 7;
const LINES_MAX = 200;
const WIDTH = 900;
const HEIGHT = 120;
const TOP = 16;
const BOTTOM = 14;

function valueOn(trial: ITrialRow, axis: IAxis): number | null {
  const value = axis.name === METRIC ? trial.value : trial.config[axis.name];
  if (typeof value === 'number') {
    return value;
  }
  const at = value === undefined || axis.words.length === 0 ? -1 : axis.words.indexOf(String(value));
  return at < 0 ? null : at;
}

/** The axes that tell trials apart. A parameter over more than two decades, all above zero, is logarithmic. */
export function axesOf(trials: ITrialRow[]): IAxis[] {
  const names = [...new Set(trials.flatMap(trial => Object.keys(trial.config)))].slice(0, AXES_MAX - 1);
  const axes: IAxis[] = [];
  for (const name of [...names, METRIC]) {
    const values = trials.map(trial => (name === METRIC ? trial.value : trial.config[name])).filter(value => value !== undefined && (name !== METRIC || value !== null));
    const isNumeric = values.every(value => typeof value === 'number');
    const words = isNumeric ? [] : [...new Set(values.map(String))];
    const numbers = isNumeric ? (values as number[]) : words.map((_, index) => index);
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
    if (numbers.length > 0 && (high > low || name === METRIC)) {
      axes.push({ name, words, low, high, isLog: name !== METRIC && isNumeric && low > 0 && high / low > 100 });
    }
  }
  return axes;
}

/** 0 (bottom) to 1 (top). */
export function heightOn(axis: IAxis, value: number): number {
  const scale = (x: number): number => (axis.isLog ? Math.log(x) : x);
  const spread = scale(axis.high) - scale(axis.low);
  return spread > 0 ? (scale(value) - scale(axis.low)) / spread : 0.5;
}

function valueAt(axis: IAxis, height: number): number {
  const share = Math.min(1, Math.max(0, height));
  if (axis.isLog) {
    return Math.exp(Math.log(axis.low) + share * (Math.log(axis.high) - Math.log(axis.low)));
  }
  return axis.low + share * (axis.high - axis.low);
}

export function isBrushed(trial: ITrialRow, brush: IBrush): boolean {
  const value = brush.axis === METRIC ? trial.value : trial.config[brush.axis];
  return typeof value === 'number' && value >= brush.low && value <= brush.high;
}

function axisText(axis: IAxis, value: number): string {
  return axis.words.length > 0 ? axis.words[Math.round(value)] : metricText(value);
}

export function parallel(
  trials: ITrialRow[],
  row: IExperimentRow,
  brush: IBrush | null,
  onBrush: (brush: IBrush | null) => void
): VNode | null {
  const axes = axesOf(trials);
  if (axes.length < 3 || trials.length < 3) {
    return null;
  }
  const step = (WIDTH - 100) / (axes.length - 1);
  const y = (height: number): number => TOP + (HEIGHT - TOP - BOTTOM) * (1 - height);
  const lines = trials.slice(-LINES_MAX).map(trial => {
    const points = axes.flatMap((axis, index) => {
      const value = valueOn(trial, axis);
      return value === null ? [] : [`${(50 + index * step).toFixed(0)},${y(heightOn(axis, value)).toFixed(1)}`];
    });
    const tone = trial.best ? 'rb-line-best' : brush !== null && !isBrushed(trial, brush) ? 'rb-line-out' : 'rb-line';
    return h('polyline', { key: trial.trial_id, class: tone, points: points.join(' ') }, h('title', null, trial.name || trial.trial_id));
  });
  const drawn = axes.map((axis, index) => {
    const x = 50 + index * step;
    const name = axis.name === METRIC ? row.metric || 'value' : axis.name;
    const range = brush?.axis === axis.name ? [y(heightOn(axis, brush.high)), y(heightOn(axis, brush.low))] : null;
    let from = 0;
    const heightOf = (event: PointerEvent): number => {
      const box = (event.currentTarget as Element).getBoundingClientRect();
      return 1 - (event.clientY - box.top) / Math.max(1, box.height);
    };
    const isNumeric = axis.words.length === 0;
    return h(
      'g',
      { key: axis.name },
      h('line', { class: 'rb-axis-line', x1: x, x2: x, y1: y(0), y2: y(1) }),
      range ? h('rect', { class: 'rb-brush', x: x - 6, width: 12, y: range[0], height: Math.max(2, range[1] - range[0]) }) : null,
      h('text', { x, y: 10, 'text-anchor': 'middle' }, name),
      h('text', { x, y: HEIGHT - 2, 'text-anchor': 'middle', class: 'rb-tick' }, `${axisText(axis, axis.low)} – ${axisText(axis, axis.high)}`),
      isNumeric
        ? h('rect', {
            class: 'rb-axis-hit',
            x: x - 14,
            y: y(1),
            width: 28,
            height: y(0) - y(1),
            onpointerdown: (event: PointerEvent) => {
              from = heightOf(event);
              (event.currentTarget as Element).setPointerCapture?.(event.pointerId);
            },
            onpointerup: (event: PointerEvent) => {
              const to = heightOf(event);
              const [low, high] = [Math.min(from, to), Math.max(from, to)];
              onBrush(high - low < 0.03 ? null : { axis: axis.name, low: valueAt(axis, low), high: valueAt(axis, high) });
            }
          })
        : null
    );
  });
  const told = `Parallel coordinates of ${trials.length} trials over ${axes.length} axes. Drag on an axis to choose a range.`;
  return h(
    'div',
    { class: 'rb-parallel' },
    h('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': told }, lines, drawn),
    rangeFields(axes, row, brush, onBrush)
  );
}

/** The same by keyboard: an axis and its bounds. */
function rangeFields(axes: IAxis[], row: IExperimentRow, brush: IBrush | null, onBrush: (brush: IBrush | null) => void): VNode {
  const numeric = axes.filter(axis => axis.words.length === 0);
  const chosen = numeric.find(axis => axis.name === brush?.axis);
  const pick = (event: Event): void => {
    const axis = numeric.find(known => known.name === (event.target as HTMLSelectElement).value);
    onBrush(axis ? { axis: axis.name, low: axis.low, high: axis.high } : null);
  };
  const bound = (end: 'low' | 'high'): VNode | null =>
    brush === null || chosen === undefined
      ? null
      : h('input', {
          class: 'rb-field rb-narrow',
          type: 'number',
          step: 'any',
          'aria-label': end === 'low' ? 'From' : 'To',
          value: String(Number(brush[end].toPrecision(4))),
          onchange: (event: Event) => onBrush({ ...brush, [end]: Number((event.target as HTMLInputElement).value) })
        });
  const options = [['', 'all trials'], ...numeric.map(axis => [axis.name, axis.name === METRIC ? row.metric || 'value' : axis.name])];
  return h(
    'div',
    { class: 'rb-tools' },
    h(
      'select',
      { class: 'rb-field', 'aria-label': 'Choose trials by', onchange: pick },
      options.map(([value, word]) => h('option', { value, selected: value === (brush?.axis ?? '') }, word))
    ),
    bound('low'),
    bound('high')
  );
}

/** The best value that any trial had reached by each step. */
export function bestSoFar(trials: ITrialRow[], mode: string): number[] {
  const longest = Math.max(0, ...trials.map(trial => trial.history.length));
  const best: number[] = [];
  for (let step = 0; step < longest; step += 1) {
    const seen = trials.flatMap(trial => (step < trial.history.length ? [trial.history[step]] : []));
    const now = mode === 'min' ? Math.min(...seen) : Math.max(...seen);
    const before = best[step - 1] ?? now;
    best.push(mode === 'min' ? Math.min(before, now) : Math.max(before, now));
  }
  return best;
}

/** All learning curves on one scale, and the best so far. */
export function curves(row: IExperimentRow, trials: ITrialRow[], low: number, high: number): VNode | null {
  const best = bestSoFar(trials, row.mode);
  if (best.length < 2) {
    return null;
  }
  const spread = high - low || 1;
  const place = (points: number[]): string =>
    points
      .map((point, step) => {
        const share = Math.min(1, Math.max(0, (point - low) / spread));
        return `${(40 + ((WIDTH - 50) * step) / (best.length - 1)).toFixed(0)},${(4 + 92 * (1 - share)).toFixed(1)}`;
      })
      .join(' ');
  return h(
    'div',
    { class: 'rb-parallel' },
    h(
      'svg',
      { viewBox: `0 0 ${WIDTH} 100`, role: 'img', 'aria-label': `${row.metric || 'value'} of ${trials.length} trials, best so far ${metricText(best[best.length - 1])}` },
      h('text', { x: 0, y: 10, class: 'rb-tick' }, metricText(high)),
      h('text', { x: 0, y: 98, class: 'rb-tick' }, metricText(low)),
      trials.slice(-LINES_MAX).map(trial => h('polyline', { key: trial.trial_id, class: 'rb-line', points: place(trial.history) })),
      h('polyline', { key: ' best', class: 'rb-line-best', points: place(best) })
    )
  );
}
