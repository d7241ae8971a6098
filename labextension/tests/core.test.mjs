// The core without a browser: state from messages, the small virtual DOM, numbers as text, geometry, the socket.
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';

import { h, patch } from '../lib/core/dom.js';
import { bytesText, countText, durationText, metricText, rateText } from '../lib/core/format.js';
import { bestSoFar, axesOf, heightOn } from '../lib/core/panels/parallel.js';
import { placed } from '../lib/core/panels/timeline.js';
import { squarified } from '../lib/core/panels/treemap.js';
import { editedConfig } from '../lib/core/sections/clone.js';
import { configCode, sorted } from '../lib/core/sections/trial_table.js';
import { HttpCommands } from '../lib/core/commands.js';
import { Socket } from '../lib/core/socket.js';
import { PanelState } from '../lib/core/state.js';
import { page } from './page.mjs';

test('a snapshot replaces everything, a delta brings whole rows and takes keys away', () => {
  const state = new PanelState();
  state.apply({ version: 1, snapshot: { values: { cluster_name: 'fox' }, tables: { tasks: { a: { task_id: 'a', state: 'RUNNING' }, b: { task_id: 'b' } } } } });
  assert.deepEqual(state.rows('tasks').map(row => [row.task_id, row.error, row.worker_pid]), [['a', '', 0], ['b', '', 0]]);
  const changed = { values: {}, tables: { tasks: { a: { task_id: 'a', state: 'FAILED', error: 'x' } } }, gone: { tasks: ['b'] } };
  assert.equal(state.apply({ version: 2, since: 1, delta: changed }), true);
  assert.deepEqual(state.rows('tasks').map(row => [row.task_id, row.state, row.error]), [['a', 'FAILED', 'x']]);
  assert.equal(state.values.cluster_name, 'fox');
  state.apply({ version: 1, snapshot: { values: {}, tables: {} } });
  assert.equal(state.rows('tasks').length, 0);
  assert.equal(state.values.cluster_name, '');
});

test('a delta on another version changes nothing and asks for a new subscription', () => {
  const state = new PanelState();
  state.apply({ version: 1, snapshot: { values: {}, tables: {} } });
  const delta = { values: { cluster_name: 'late' }, tables: {} };
  assert.equal(state.apply({ version: 4, since: 3, delta }), false);
  assert.equal(state.values.cluster_name, '');
  assert.equal(state.apply({ version: 1, since: 0, delta }), true, 'seen before is no gap');
  assert.equal(state.values.cluster_name, '');
});

test('rows are the same array until their table changes', () => {
  const state = new PanelState();
  state.apply({ version: 1, snapshot: { values: {}, tables: { actors: { a: { actor_id: 'a' } } } } });
  const before = state.rows('actors');
  state.apply({ version: 2, since: 1, delta: { values: {}, tables: { tasks: { t: { task_id: 't' } } } } });
  assert.equal(state.rows('actors'), before);
});

test('what a newer server says beyond the schema is left alone', () => {
  const state = new PanelState();
  state.apply({ version: 1, snapshot: { values: { mood: 'good' }, tables: { moods: { a: {} } } } });
  assert.equal('mood' in state.values, false);
});

test('patching keeps elements with a key, moves them, and takes away what is gone', () => {
  const at = page();
  const row = (key, text) => h('li', { key }, text);
  patch(at, [row('a', '1'), row('b', '2'), row('c', '3')]);
  const [a, b, c] = at.children;
  patch(at, [row('c', '3'), row('a', 'one'), row('d', '4')]);
  assert.deepEqual([...at.children].map(element => element.textContent), ['3', 'one', '4']);
  assert.equal(at.children[0], c);
  assert.equal(at.children[1], a);
  assert.equal(b.parentNode, null);
});

test('patching changes attributes, handlers and text only where they differ', () => {
  const at = page();
  let pressed = 0;
  patch(at, [h('button', { title: 'old', disabled: true, onclick: () => (pressed += 1) }, 'x'), 'tail']);
  const [button] = at.children;
  patch(at, [h('button', { 'aria-label': 'new', onclick: () => (pressed += 10) }, 'y'), 'tail']);
  assert.equal(at.children[0], button);
  assert.deepEqual([button.getAttribute('title'), button.hasAttribute('disabled'), button.getAttribute('aria-label'), at.textContent], [null, false, 'new', 'ytail']);
  button.onclick();
  assert.equal(pressed, 10);
});

test('text never becomes markup', () => {
  const at = page();
  patch(at, [h('span', { title: '"><img src=x onerror=alert(1)>' }, '<img src=x onerror=alert(1)>')]);
  assert.equal(at.querySelectorAll('img').length, 0);
  assert.equal(at.textContent, '<img src=x onerror=alert(1)>');
});

test('numbers read as in text and saved panels', () => {
  assert.deepEqual([1234567, 0.25, 3, NaN].map(countText), ['1,234,567', '0.25', '3', '–']);
  assert.deepEqual([12_900_000, 512, 3 * 2 ** 30].map(bytesText), ['12.3 MiB', '512 B', '3.00 GiB']);
  assert.deepEqual([850, 2100, 3.4e6, 1.25e8, 3.8e9].map(durationText), ['850 µs', '2.1 ms', '3.4 s', '2 min 05 s', '1 h 03 min']);
  assert.deepEqual([12_400, 350, 2.5, 0].map(rateText), ['12.4k/s', '350/s', '2.5/s', '']);
  assert.deepEqual([0.95312, 12, null, 1e-7, 123456.7, 0.5].map(metricText), ['0.9531', '12', '–', '1e-07', '1.235e+05', '0.5']);
});

test('a treemap fills its box, without overlap, by size', () => {
  const sizes = [60, 30, 20, 8, 2];
  const rects = squarified(sizes, 100, 40);
  const areas = rects.map(rect => rect.width * rect.height);
  areas.forEach((area, index) => assert.ok(Math.abs(area - (sizes[index] / 120) * 4000) < 1e-6));
  for (const rect of rects) {
    assert.ok(rect.x >= -1e-9 && rect.y >= -1e-9 && rect.x + rect.width <= 100 + 1e-6 && rect.y + rect.height <= 40 + 1e-6);
  }
  assert.deepEqual(squarified([], 10, 10), []);
});

test('axes are those that tell trials apart, logarithmic over decades', () => {
  const trial = (lr, act, value) => ({ trial_id: String(lr), config: { lr, act, same: 1 }, value });
  const axes = axesOf([trial(1e-4, 'relu', 0.5), trial(1e-1, 'tanh', 0.9)]);
  assert.deepEqual(axes.map(axis => [axis.name.trim(), axis.isLog, axis.words]), [['lr', true, []], ['act', false, ['relu', 'tanh']], ['metric', false, []]]);
  assert.ok(Math.abs(heightOn(axes[0], 10 ** -2.5) - 0.5) < 1e-9);
});

test('best so far never gets worse, whichever way is better', () => {
  const trials = [{ history: [1, 3, 2] }, { history: [2, 1] }];
  assert.deepEqual(bestSoFar(trials, 'max'), [2, 3, 3]);
  assert.deepEqual(bestSoFar(trials, 'min'), [1, 1, 1]);
});

test('trials are sorted by a column, those without a value last either way', () => {
  const trials = [{ trial_id: 'a', value: 1 }, { trial_id: 'b', value: null }, { trial_id: 'c', value: 3 }];
  const ids = down => sorted(trials, { by: 'value', down }).map(trial => trial.trial_id).join('');
  assert.deepEqual([ids(false), ids(true)], ['acb', 'cab']);
});

test('a config becomes Python, and edited values keep their kind', () => {
  const config = { lr: 0.001, 'na"me': 'x\ny', flag: true, none: null };
  assert.equal(configCode(config, 'best_config'), 'best_config = {\n    "lr": 0.001,\n    "na\\"me": "x\\ny",\n    "flag": True,\n    "none": None,\n}');
  const { config: edited, wrong } = editedConfig({ lr: 0.1, act: 'relu', on: true, n: 3 }, { lr: '1e-3', on: 'false', n: 'many' });
  assert.deepEqual([edited.lr, edited.act, edited.on, wrong], [0.001, 'relu', false, ['n']]);
});

test('the timeline has a lane for each worker and puts running tasks to now', () => {
  const task = (id, worker_pid, started_ms, ended_ms) => ({ task_id: id, node_id: 'n1', worker_pid, started_ms, ended_ms });
  const { boxes, lanes, spanMs } = placed([task('a', 1, 100, 150), task('b', 2, 150, 0), task('c', 1, 0, 0)], 200);
  assert.equal(lanes.length, 2);
  assert.equal(spanMs, 100);
  assert.deepEqual(boxes.map(box => [box.task.task_id, box.x, box.width]), [['a', 0, 500], ['b', 500, 500]]);
});

class HandWire {
  static all = [];
  sent = [];
  constructor() {
    HandWire.all.push(this);
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.isClosed = true;
  }
  open() {
    this.onopen();
  }
  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
}

test('one socket serves many views, subscribes anew after a gap and after a lost connection, and closes with the last view', () => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  HandWire.all = [];
  const socket = new Socket(() => new HandWire());
  const seen = [];
  const source = socket.source('c1');
  const first = source.subscribe('tasks', { text: 'x' }, state => seen.push(state.values.cluster_name));
  const second = source.subscribe('tune', {}, () => undefined, failure => seen.push(failure.what));
  const [wire] = HandWire.all;
  assert.equal(source.status, 'waiting');
  wire.open();
  assert.equal(source.status, 'live');
  assert.deepEqual(wire.sent.map(message => [message.op, message.sub, message.cluster, message.panel]), [['subscribe', 1, 'c1', 'tasks'], ['subscribe', 2, 'c1', 'tune']]);
  wire.say({ sub: 1, version: 1, snapshot: { values: { cluster_name: 'fox' }, tables: {} } });
  wire.say({ sub: 2, error: { what: 'The cluster ended.' } });
  wire.say({ sub: 1, version: 5, since: 4, delta: { values: { cluster_name: 'lost' }, tables: {} } });
  assert.deepEqual(seen, ['fox', 'The cluster ended.']);
  assert.deepEqual([wire.sent[2].op, wire.sent[2].sub, wire.sent[2].since], ['subscribe', 1, 0]);
  wire.onclose();
  assert.equal(source.status, 'waiting');
  mock.timers.tick(300);
  assert.equal(HandWire.all.length, 2);
  const again = HandWire.all[1];
  again.open();
  assert.equal(again.sent.length, 2);
  first.refilter({ text: 'y' });
  assert.deepEqual(again.sent.slice(2).map(message => [message.op, message.sub, message.filter]), [['unsubscribe', 1, undefined], ['subscribe', 3, { text: 'y' }]]);
  first.dispose();
  second.dispose();
  assert.equal(again.isClosed, true);
  mock.timers.tick(60_000);
  assert.equal(HandWire.all.length, 2);
  mock.timers.reset();
});

test('a socket that hears nothing for long is opened anew', () => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
  HandWire.all = [];
  const socket = new Socket(() => new HandWire());
  const view = socket.source('c1').subscribe('tasks', {}, () => undefined);
  HandWire.all[0].open();
  mock.timers.tick(20_000);
  HandWire.all[0].say({ op: 'pong' });
  mock.timers.tick(20_000);
  assert.equal(HandWire.all.length, 1);
  mock.timers.tick(20_000);
  mock.timers.tick(20_000);
  assert.equal(HandWire.all.length, 2);
  view.dispose();
  mock.timers.reset();
});

test('a command that fails says what and what next, and never rejects', async () => {
  const asked = [];
  const answers = [{ status: 200, json: { ok: true, said: 'Cancelled 3 tasks.' } }, { status: 409, json: { what: 'It ended.', next: 'Start one.' } }];
  const commands = new HttpCommands('a/b', async (path, body) => {
    asked.push([path, body]);
    const answer = answers.shift();
    if (!answer) {
      throw new Error('network');
    }
    return answer;
  }, ['cancel']);
  assert.deepEqual(await commands.run('cancel', { all: true }), { ok: true, said: 'Cancelled 3 tasks.' });
  assert.deepEqual(asked, [['clusters/a%2Fb/cancel', { all: true }]]);
  assert.deepEqual(await commands.run('cancel', {}), { ok: false, said: 'cancel did not work: It ended.', next: 'Start one.' });
  assert.match((await commands.run('cancel', {})).said, /did not reach the Jupyter server: network/);
  assert.deepEqual([commands.can('cancel'), commands.can('scale')], [true, false]);
});
