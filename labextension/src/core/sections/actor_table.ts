/**
 * Actors in a table: state, process, restarts, what each holds, its calls, and whether its code is older than the
 * notebook's. Living ones can be ended from here.
 */
import { Child, h, VNode } from '../dom.js';
import { amountsText, countText, rateText, shortId } from '../format.js';
import { IContext, IPanel } from '../panel.js';
import { cellLink, chip, columns, commandButton, head, note, span } from '../parts.js';
import { IActorRow } from '../schema.js';

const ROWS_MAX = 200;
const TONES: Record<string, string> = { ALIVE: 'good', PENDING_CREATION: 'run', RESTARTING: 'warn', DEAD: 'dim' };
export const WORDS: Record<string, string> = { PENDING_CREATION: 'starting', RESTARTING: 'restarting', ALIVE: 'alive', DEAD: 'dead' };

export const actorTable: IPanel<object> = {
  title: 'Actors',
  begin: () => ({}),
  draw: context => table(context, context.state.rows('actors'))
};

export function table(context: IContext<object>, rows: IActorRow[]): Child[] {
  if (rows.length === 0) {
    return [];
  }
  const { actors_by_state, actors_hidden } = context.state.values;
  const summary = Object.entries(actors_by_state).map(([state, count]) => `${countText(count)} ${word(state)}`);
  const shown = rows.slice(0, ROWS_MAX);
  const has = {
    calls: shown.some(row => row.calls_done !== null),
    holds: shown.some(row => amountsText(row.resources) !== ''),
    cell: shown.some(row => row.cell !== ''),
    kill: context.commands.can('kill')
  };
  const titles = [{ title: 'Class' }, { title: 'State' }, { title: 'Pid', class: 'rb-num' }, { title: 'Restarts', class: 'rb-num' }];
  const more = [
    ...(has.calls ? [{ title: 'Waiting', class: 'rb-num' }, { title: 'Calls', class: 'rb-num' }] : []),
    ...(has.holds ? [{ title: 'Holds' }] : []),
    ...(has.cell ? [{ title: 'Cell' }] : []),
    ...(has.kill ? [{ title: '' }] : [])
  ];
  const hidden = actors_hidden + rows.length - shown.length;
  return [
    head('Actors', span(summary.join(' · '), 'rb-dim rb-small')),
    h('div', { class: 'rb-scroll' }, h('table', { class: 'rb-table' }, columns([...titles, ...more]), h('tbody', null, shown.map(row => actorRow(context, row, has))))),
    hidden > 0 ? note(`and ${hidden} more actors`) : null
  ];
}

function actorRow(context: IContext<object>, row: IActorRow, has: { calls: boolean; holds: boolean; cell: boolean; kill: boolean }): VNode {
  const number = (value: number | null): VNode => h('td', { class: 'rb-num' }, value === null ? '–' : countText(value));
  const isAlive = row.state !== 'DEAD';
  return h(
    'tr',
    { key: row.actor_id, 'data-actor': row.actor_id },
    h(
      'td',
      { class: 'rb-cut', title: row.actor_id },
      span(row.class_name || shortId(row.actor_id), 'rb-code'),
      row.name ? span(` ${row.name}`, 'rb-dim') : null,
      row.stale ? h('span', { class: 'rb-badge', title: row.stale }, 'old code') : null
    ),
    h('td', { title: row.waiting || row.death || undefined }, chip(word(row.state), TONES[row.state] ?? 'dim', row.waiting || row.death || undefined)),
    h('td', { class: 'rb-num rb-dim' }, row.pid ? String(row.pid) : ''),
    h('td', { class: 'rb-num' }, row.restarts ? span(countText(row.restarts), 'rb-warn') : '0'),
    has.calls ? number(row.calls_pending) : null,
    has.calls
      ? h('td', { class: 'rb-num' }, row.calls_done === null ? '–' : countText(row.calls_done), row.rate_per_s ? span(` ${rateText(row.rate_per_s)}`, 'rb-dim') : null)
      : null,
    has.holds ? h('td', { class: 'rb-dim rb-small' }, amountsText(row.resources)) : null,
    has.cell ? h('td', null, cellLink(context, row.cell)) : null,
    has.kill ? h('td', { class: 'rb-num' }, isAlive ? commandButton(context, 'Kill', 'kill', { actor_id: row.actor_id }, `end actor ${row.name || row.class_name}`) : null) : null
  );
}

function word(state: string): string {
  return WORDS[state] ?? state.toLowerCase();
}
