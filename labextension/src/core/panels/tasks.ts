/**
 * Tasks: a bar for each function; below it every task that is known, as a table of which only what is in sight is drawn,
 * or as a timeline with a lane for each worker. Filters are applied here at once, and by the sender for what is not here.
 */
import { Child, h, VNode } from '../dom.js';
import { countText, durationText, rateText, shortId } from '../format.js';
import { IContext, IPanel } from '../panel.js';
import { bar, button, chip, choice, commandButton, head, IScroll, NO_SCROLL, note, searchField, span, virtualList } from '../parts.js';
import { ITaskGroupRow, ITaskRow } from '../schema.js';
import { PanelState } from '../state.js';
import { timeline } from './timeline.js';

export interface ITasksUi {
  text: string;
  state: string;
  asTimeline: boolean;
  scroll: IScroll;
}

const ROW_HEIGHT = 22;
const ORDER: Record<string, number> = { RUNNING: 0, FAILED: 1, PENDING: 2, CANCELLED: 3, FINISHED: 4 };
const TONES: Record<string, string> = { RUNNING: 'run', FAILED: 'bad', CANCELLED: 'warn', FINISHED: 'good' };
const STATES: [string, string][] = [
  ['', 'any state'],
  ['RUNNING', 'running'],
  ['PENDING', 'waiting'],
  ['FINISHED', 'finished'],
  ['FAILED', 'failed'],
  ['CANCELLED', 'cancelled']
];

export const tasks: IPanel<ITasksUi> = {
  title: 'Tasks',
  begin: () => ({ text: '', state: '', asTimeline: false, scroll: NO_SCROLL }),
  filter: ui => ({ text: ui.text, state: ui.state }),
  drawCompact: groups,
  draw: context => {
    const { state, ui } = context;
    const chosen = chosenTasks(state, ui.text, ui.state);
    const view = (asTimeline: boolean, word: string): VNode =>
      button(word, () => context.set({ asTimeline }), { 'aria-pressed': String(ui.asTimeline === asTimeline) });
    return [
      ...groups(context),
      h(
        'div',
        { class: 'rb-tools' },
        searchField('Filter by name, id or error', ui.text, text => context.set({ text, scroll: { ...ui.scroll, top: 0 } })),
        choice('State', ui.state, STATES, value => context.set({ state: value })),
        span(`${countText(chosen.length)} tasks${state.more ? `, ${countText(state.more)} on their way` : ''}`, 'rb-dim rb-small'),
        h('span', { class: 'rb-push rb-pair', role: 'group', 'aria-label': 'View' }, view(false, 'Table'), view(true, 'Timeline'))
      ),
      ui.asTimeline ? timeline(chosen, state.nowMs) : table(context, chosen)
    ];
  }
};

/** What matches, running first, then what failed, then the newest. */
export function chosenTasks(state: PanelState, text: string, wanted: string): ITaskRow[] {
  const lower = text.toLowerCase();
  const chosen = state.rows('tasks').filter(
    row =>
      (!wanted || row.state === wanted) &&
      (!lower || [row.name, row.task_id, row.error, row.cell].some(field => field.toLowerCase().includes(lower)))
  );
  return chosen.sort(
    (a, b) => (ORDER[a.state] ?? 5) - (ORDER[b.state] ?? 5) || b.started_ms - a.started_ms || (a.task_id < b.task_id ? -1 : 1)
  );
}

function table(context: IContext<ITasksUi>, chosen: ITaskRow[]): VNode {
  const { ui, state } = context;
  if (chosen.length === 0) {
    return note(state.rows('tasks').length > 0 ? 'No task matches.' : 'No task has ended yet; bars above count all of them.');
  }
  return virtualList(chosen.length, ROW_HEIGHT, ui.scroll, scroll => context.set({ scroll }), 'Tasks', index => {
    const row = chosen[index];
    const ended = row.state !== 'RUNNING' && row.state !== 'PENDING';
    return h(
      'div',
      { class: 'rb-row rb-task', role: 'row', key: row.task_id, 'aria-rowindex': index + 1, 'data-task': row.task_id },
      h('span', { role: 'cell', class: 'rb-code rb-cut', title: `${row.name}\n${row.task_id}` }, row.name || shortId(row.task_id)),
      h('span', { role: 'cell' }, chip(row.state.toLowerCase(), TONES[row.state] ?? 'dim', row.error || undefined)),
      h('span', { role: 'cell', class: 'rb-num rb-dim' }, row.duration_ms === null ? '' : durationText(row.duration_ms * 1000)),
      h('span', { role: 'cell', class: 'rb-num rb-dim', title: row.node_id }, row.worker_pid ? `pid ${row.worker_pid}` : ''),
      h('span', { role: 'cell', class: 'rb-cut rb-small rb-bad', title: row.error || undefined }, row.error),
      h('span', { role: 'cell' }, cellLink(context, row.cell), ended ? null : commandButton(context, 'Cancel', 'cancel', { task_ids: [row.task_id] }, `cancel ${row.name}`))
    );
  });
}

/** A link to the cell that submitted it; its name where there is no notebook to show it in. */
export function cellLink<U>(context: IContext<U>, cell: string): Child {
  const reveal = context.commands.revealCell;
  if (!cell) {
    return null;
  }
  return reveal ? button(cell, () => reveal(cell), { class: 'rb-link', title: 'Show this cell' }) : span(cell, 'rb-dim rb-small');
}

function groups<U>(context: IContext<U>): Child[] {
  const { values } = context.state;
  const rows = context.state.rows('task_groups');
  if (rows.length === 0) {
    return context.options.compact ? [] : [head('Tasks'), note('No task was submitted yet.')];
  }
  const total = values.tasks_total;
  const open = total.running + total.pending;
  const said = [`${countText(ended(total))} of ${countText(ended(total) + open)} done`, rateText(total.rate_per_s)];
  const cell = context.options.cellId;
  return [
    head(
      'Tasks',
      span(said.filter(Boolean).join(' · '), 'rb-dim rb-small'),
      open > 0 ? h('span', { class: 'rb-push' }, commandButton(context, 'Cancel', 'cancel', cell ? { cell } : { all: true },
        cell ? 'cancel what this cell submitted and what still runs or waits' : 'cancel all tasks that run or wait')) : null
    ),
    h('div', { class: 'rb-tasks' }, rows.flatMap(groupRow)),
    values.task_groups_hidden ? note(`and ${values.task_groups_hidden} more functions`) : null
  ];
}

function ended(group: ITaskGroupRow): number {
  return group.finished + group.failed + group.cancelled;
}

function groupRow(group: ITaskGroupRow): VNode[] {
  const whole = Math.max(1, ended(group) + group.running + group.pending);
  const stretches = [
    { tone: 'good', share: group.finished / whole, word: 'finished', count: group.finished },
    { tone: 'bad', share: group.failed / whole, word: 'failed', count: group.failed },
    { tone: 'warn', share: group.cancelled / whole, word: 'cancelled', count: group.cancelled },
    { tone: 'run', share: group.running / whole, word: 'running', count: group.running }
  ];
  const told = [...stretches, { word: 'waiting', count: group.pending }]
    .filter(stretch => stretch.count)
    .map(stretch => `${countText(stretch.count)} ${stretch.word}`)
    .join(', ');
  return [
    h('span', { class: 'rb-code rb-cut', title: group.name, key: `n${group.name}` }, group.name),
    h('span', { key: `b${group.name}` }, bar(stretches, told)),
    h(
      'span',
      { class: 'rb-facts', key: `f${group.name}` },
      group.running ? span(`${countText(group.running)} running`, 'rb-run') : null,
      group.failed ? span(`${countText(group.failed)} failed`, 'rb-bad') : null,
      group.cancelled ? span(`${countText(group.cancelled)} cancelled`, 'rb-warn') : null,
      group.rate_per_s ? span(rateText(group.rate_per_s), 'rb-dim') : null,
      group.mean_us ? span(durationText(group.mean_us), 'rb-dim', 'mean time of a task') : null,
      span(`${countText(ended(group))} / ${countText(whole)}`)
    )
  ];
}
