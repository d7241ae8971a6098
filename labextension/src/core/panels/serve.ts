/**
 * Serve: each application with its deployments: replicas, requests a second, latencies, queue, errors, and why their number
 * changed.
 */
import { Child, h, VNode } from '../dom.js';
import { countText, durationText, rateText, shortId } from '../format.js';
import { IPanel } from '../panel.js';
import { chip, columns, note, span } from '../parts.js';
import { IDeploymentRow } from '../schema.js';

const TONES: Record<string, string> = { RUNNING: 'good', HEALTHY: 'good', UNHEALTHY: 'bad', DEPLOY_FAILED: 'bad' };

export const serve: IPanel<object> = {
  title: 'Serve',
  begin: () => ({}),
  draw: ({ state }) => {
    const rows = state.rows('deployments');
    const apps = [...new Set(rows.map(row => row.app))];
    return apps.length > 0
      ? apps.map(app => h('div', { class: 'rb-node', key: app, 'data-app': app }, application(rows.filter(row => row.app === app))))
      : [note('No application is served.')];
  }
};

function application(rows: IDeploymentRow[]): Child[] {
  const [first] = rows;
  const parts = rows.filter(row => row.name);
  return [
    h(
      'div',
      { class: 'rb-head' },
      span('Serve', 'rb-title'),
      span(first.app, 'rb-code'),
      chip(first.app_status.toLowerCase(), TONES[first.app_status] ?? 'warn', first.message || undefined),
      first.route_prefix ? span(first.route_prefix, 'rb-code rb-dim') : null
    ),
    first.message ? h('div', { class: 'rb-bad rb-small' }, first.message) : null,
    parts.length > 0 ? table(parts) : null,
    ...parts.flatMap(row => row.decisions.slice(-1).map(text => h('div', { key: row.name, class: 'rb-dim rb-small' }, `${row.name}: ${text}`)))
  ];
}

function table(rows: IDeploymentRow[]): VNode {
  const number = (title: string): { title: string; class: string } => ({ title, class: 'rb-num' });
  const titles = [{ title: 'Deployment' }, { title: 'State' }, number('Replicas'), number('Requests'), number('p50'), number('p95'), number('p99'), number('Queue'), number('Errors')];
  const ms = (value: number): string => (value ? durationText(value * 1000) : '–');
  const body = rows.map(row => {
    const running = row.replicas.filter(replica => replica.state === 'RUNNING').length;
    const who = row.replicas.map(replica => `${shortId(replica.replica_id)} ${replica.state.toLowerCase()} pid ${replica.pid}: ${rateText(replica.qps) || '0/s'}, ${replica.ongoing} ongoing`);
    return h(
      'tr',
      { key: row.name, 'data-deployment': row.name },
      h('td', { class: 'rb-code' }, row.name),
      h('td', null, chip(row.status.toLowerCase(), TONES[row.status] ?? 'warn', row.message || undefined)),
      h('td', { class: 'rb-num', title: who.join('\n') || undefined }, `${running}/${row.replicas_wanted}`),
      h('td', { class: 'rb-num', title: `${countText(row.requests)} so far` }, rateText(row.qps) || '–'),
      h('td', { class: 'rb-num' }, ms(row.p50_ms)),
      h('td', { class: 'rb-num' }, ms(row.p95_ms)),
      h('td', { class: 'rb-num' }, ms(row.p99_ms)),
      h('td', { class: 'rb-num' }, countText(row.queued)),
      h('td', { class: 'rb-num' }, row.errors ? span(countText(row.errors), 'rb-bad') : '0')
    );
  });
  return h('div', { class: 'rb-scroll' }, h('table', { class: 'rb-table' }, columns(titles), h('tbody', null, body)));
}
