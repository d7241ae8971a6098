/**
 * Tasks by function: a bar for each, with counts, rate and mean time; and the one button that ends what waits or runs.
 */
import { Child, h, VNode } from '../dom.js';
import { countText, durationText, rateText } from '../format.js';
import { IContext, IPanel } from '../panel.js';
import { bar, commandButton, head, note, span } from '../parts.js';
import { IProgressRow, ITaskGroupRow } from '../schema.js';

export const taskGroups: IPanel<object> = { title: 'Tasks', begin: () => ({}), draw: groups };

function groups(context: IContext<object>): Child[] {
  const { values } = context.state;
  const rows = context.state.rows('task_groups');
  const bars = context.state.rows('progress');
  if (rows.length === 0 && bars.length === 0) {
    return context.options.compact ? [] : [head('Tasks'), note('No task was submitted yet.')];
  }
  const total = values.tasks_total;
  const open = total.running + total.pending;
  const said = [`${countText(ended(total))} of ${countText(ended(total) + open)} done`, rateText(total.rate_per_s)];
  const { cellId: cell, kernelId } = context.options;
  return [
    head(
      'Tasks',
      span(said.filter(Boolean).join(' · '), 'rb-dim rb-small'),
      open > 0 ? h('span', { class: 'rb-push' }, commandButton(context, 'Cancel', 'cancel', { ...(cell ? { cell } : { all: true }), ...(kernelId ? { kernel_id: kernelId } : {}) },
        cell ? 'cancel what this cell submitted and is not over' : kernelId ? 'cancel all that this notebook submitted and is not over' : 'cancel all tasks that are not over')) : null
    ),
    h('div', { class: 'rb-tasks' }, [...rows.flatMap(groupRow), ...bars.flatMap(progressRow)]),
    values.task_groups_hidden ? note(`and ${values.task_groups_hidden} more functions`) : null,
    values.progress_hidden ? note(`and ${values.progress_hidden} more progress bars`) : null
  ];
}

/** A bar that a task draws itself (tqdm_ray), in the columns of the others. */
function progressRow(row: IProgressRow): VNode[] {
  const share = row.total > 0 ? Math.min(1, row.done / row.total) : 0;
  const counted = row.total > 0 ? `${countText(row.done)} / ${countText(row.total)}` : countText(row.done);
  const told = `${counted} ${row.unit}`.trim();
  return [
    h('span', { class: 'rb-cut', title: row.name, key: `pn${row.progress_id}` }, row.name),
    h('span', { key: `pb${row.progress_id}` }, bar([{ tone: row.over ? 'good' : 'run', share, word: 'done' }], told)),
    h(
      'span',
      { class: 'rb-facts', key: `pf${row.progress_id}` },
      row.rate_per_s && !row.over ? span(rateText(row.rate_per_s), 'rb-dim') : null,
      row.over && row.done < row.total ? span('ended', 'rb-warn') : null,
      row.pid ? span(`pid ${row.pid}`, 'rb-dim') : null,
      span(told)
    )
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
