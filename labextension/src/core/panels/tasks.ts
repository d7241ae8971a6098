/**
 * Tasks: a bar for each function; below it every task that is known, as a table of which only what is in sight is drawn,
 * or as a timeline with a lane for each worker. Filters are applied here at once, and by the sender for what is not here.
 */
import { h, VNode } from '../dom.js';
import { countText, durationText, shortId } from '../format.js';
import { IContext, IPanel } from '../panel.js';
import { button, cellLink, chip, commandButton, note, span } from '../parts.js';
import { choice, IScroll, NO_SCROLL, searchField, virtualList } from '../lists.js';
import { ITaskRow } from '../schema.js';
import { taskGroups } from '../sections/task_groups.js';
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
  draw: context => {
    const { state, ui } = context;
    const chosen = chosenTasks(state, ui.text, ui.state);
    const view = (asTimeline: boolean, word: string): VNode =>
      button(word, () => context.set({ asTimeline }), { 'aria-pressed': String(ui.asTimeline === asTimeline) });
    return [
      ...taskGroups.draw(context),
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

/** So far, for one that runs. */
function durationOf(row: ITaskRow, nowMs: number): string {
  const ms = row.state === 'RUNNING' && row.started_ms > 0 ? Math.max(0, nowMs - row.started_ms) : row.duration_ms;
  return ms === null ? '' : durationText(ms * 1000);
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
      h('span', { role: 'cell', class: 'rb-num rb-dim' }, durationOf(row, state.nowMs)),
      h('span', { role: 'cell', class: 'rb-num rb-dim', title: row.node_id }, row.worker_pid ? `pid ${row.worker_pid}` : ''),
      h('span', { role: 'cell', class: 'rb-cut rb-small rb-bad', title: row.error || undefined }, row.error),
      h('span', { role: 'cell' }, cellLink(context, row.cell), ended ? null : commandButton(context, 'Cancel', 'cancel', { task_ids: [row.task_id] }, `cancel ${row.name}`))
    );
  });
}
