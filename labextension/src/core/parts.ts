/**
 * Pieces that several panels are made of: heads, bars, chips, buttons, tables' heads, sparklines.
 * No state of a cluster, no decisions.
 */
import { Child, h, Value, VNode } from './dom.js';
import { metricText } from './format.js';
import { IContext } from './panel.js';
import { CommandName } from './source.js';

export function span(text: string, class_?: string, title?: string): VNode {
  return h('span', { class: class_, title }, text);
}

export function head(title: string, ...rest: Child[]): VNode {
  return h('div', { class: 'rb-head' }, span(title, 'rb-title'), ...rest);
}

export function note(text: string): VNode {
  return h('div', { class: 'rb-dim rb-small' }, text);
}

export interface IStretch {
  tone: string;
  share: number;
  word: string;
}

/** A bar of stretches, each a share of 1. `told` is what a screen reader says. */
export function bar(stretches: IStretch[], told: string): VNode {
  const fills = stretches
    .filter(stretch => stretch.share > 0)
    .map(stretch =>
      h('i', { class: `rb-fill-${stretch.tone}`, style: `width:${Math.min(100, 100 * stretch.share).toFixed(2)}%` })
    );
  return h('span', { class: 'rb-bar', role: 'img', 'aria-label': told, title: told }, fills);
}

export function chip(word: string, tone: string, title?: string): VNode {
  return h('span', { class: `rb-chip rb-${tone}`, title }, h('b', null, word));
}

export function button(label: string, onclick: () => void, attrs?: Record<string, Value>): VNode {
  return h('button', { type: 'button', class: 'rb-button', onclick, ...attrs }, label);
}

/** A button for a command; null where the command cannot be given. Through a busy kernel it says so. */
export function commandButton<U>(
  context: IContext<U>,
  label: string,
  name: CommandName,
  body: Record<string, unknown>,
  title: string
): VNode | null {
  if (!context.commands.can(name)) {
    return null;
  }
  const given = context.isGiven(name, body);
  const waits = context.commands.viaKernel ? ' Applies when the cell ends, if the kernel is busy.' : '';
  return button(given ? `${label}…` : label, () => context.give(name, body), {
    title: title + waits,
    'aria-label': `${label}: ${title}`,
    'data-command': name,
    disabled: given
  });
}

export interface IColumn {
  title: string;
  class?: string;
  sort?: string;
}

/** A table's head row; titles of sortable columns are buttons. */
export function columns(titles: IColumn[], sorted?: { by: string; down: boolean; on(by: string): void }): VNode {
  const cells = titles.map(column => {
    const isSorted = column.sort !== undefined && sorted?.by === column.sort;
    const content =
      column.sort !== undefined && sorted !== undefined
        ? button(column.title + (isSorted ? (sorted.down ? ' ▾' : ' ▴') : ''), () => sorted.on(column.sort as string), {
            class: 'rb-sort'
          })
        : column.title;
    const order = isSorted ? (sorted?.down ? 'descending' : 'ascending') : undefined;
    return h('th', { class: column.class, scope: 'col', 'aria-sort': order }, content);
  });
  return h('thead', null, h('tr', null, cells));
}

export const SPARK_WIDTH = 104;
export const SPARK_HEIGHT = 18;

/** An inline line over the points with a dot on the last; an empty box of the same size below two points. */
export function sparkline(points: number[], low: number, high: number, tone: string): VNode {
  const size = { width: SPARK_WIDTH, height: SPARK_HEIGHT, viewBox: `0 0 ${SPARK_WIDTH} ${SPARK_HEIGHT}` };
  if (points.length < 2) {
    return h('svg', { ...size, class: 'rb-spark', 'aria-hidden': 'true' });
  }
  const spread = high - low || 1;
  const step = (SPARK_WIDTH - 4) / (points.length - 1);
  const placed = points.map((point, index) => [
    (2 + index * step).toFixed(0),
    (2 + (SPARK_HEIGHT - 4) * (1 - Math.min(1, Math.max(0, (point - low) / spread)))).toFixed(1)
  ]);
  const [x, y] = placed[placed.length - 1];
  return h(
    'svg',
    {
      ...size,
      class: `rb-spark rb-${tone}`,
      role: 'img',
      'aria-label': `from ${metricText(points[0])} to ${metricText(points[points.length - 1])}`
    },
    h('polyline', { points: placed.map(pair => pair.join(',')).join(' ') }),
    h('circle', { cx: x, cy: y, r: 2 })
  );
}

/** The scale that a group of sparklines shares, without the outermost 2 %: one diverging curve does not flatten all. */
export function sharedScale(curves: number[][]): [number, number] {
  const points = curves.flat().sort((a, b) => a - b);
  if (points.length === 0) {
    return [0, 1];
  }
  const clipped = Math.floor(points.length * 0.02);
  return [points[clipped], points[points.length - 1 - clipped]];
}

/** A link to the cell that submitted it; its name where there is no notebook to show it in. */
export function cellLink<U>(context: IContext<U>, cell: string): Child {
  const reveal = context.commands.revealCell;
  if (!cell) {
    return null;
  }
  return reveal ? button(cell, () => reveal(cell), { class: 'rb-link', title: 'Show this cell' }) : span(cell, 'rb-dim rb-small');
}
