// Panels drawn from state, without a browser: what they show, what they command, that names stay text.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { mountCard, mountPanel, PANEL_NAMES, PANELS } from '../lib/core/index.js';
import { byKey, HandCommands, HandSource, page, SWEEP, trials } from './page.mjs';

const EVIL = '<img src=x onerror="window.__owned=1">';

function mounted(name, commands = new HandCommands(), options = {}) {
  const at = page();
  const source = new HandSource();
  const dispose = mountPanel(name, at, source, commands, options);
  return { at, source, commands, dispose };
}

const settled = () => new Promise(resolve => setTimeout(resolve, 0));

test('every panel has a title, and shows words before the first message and after an empty one', () => {
  for (const name of PANEL_NAMES) {
    const { at, source, dispose } = mounted(name);
    assert.ok(PANELS[name].title);
    assert.match(at.textContent, /Waiting for the cluster/);
    source.snapshot({});
    assert.ok(at.querySelector(`.raybook-panel[data-panel="${name}"]`), name);
    dispose();
    assert.equal(at.children.length, 0);
    assert.equal(source.isDisposed, true);
  }
});

test('hostile names stay text in every panel', () => {
  const tables = {
    nodes: { n1: { node_id: EVIL, hostname: EVIL, resources: [{ name: EVIL, used: 1, total: 2 }], holders: [{ name: EVIL, resources: { [EVIL]: 1 } }] } },
    task_groups: { a: { name: EVIL, running: 1, failed: 1 } },
    tasks: { a: { task_id: 'a', name: EVIL, state: EVIL, error: EVIL, cell: EVIL } },
    actors: { a: { actor_id: EVIL, class_name: EVIL, name: EVIL, state: EVIL, stale: EVIL, waiting: EVIL } },
    objects: { a: { object_id: EVIL, name: EVIL, size_bytes: 10, holders: [EVIL] } },
    experiments: { a: { experiment_id: 'run-1', name: EVIL, metric: EVIL } },
    trials: trials(4, () => ({ name: EVIL, parameters: EVIL, error: EVIL, state: EVIL, config: { [EVIL]: Math.random(), b: EVIL + Math.random() } })),
    trains: { a: { run_id: EVIL, name: EVIL, state: EVIL, error: EVIL, metric: EVIL, value: 1, metrics: { [EVIL]: 1 }, workers: [{ rank: 0, hostname: EVIL }], latest_checkpoint: EVIL } },
    deployments: { a: { app: EVIL, app_status: EVIL, name: EVIL, status: EVIL, route_prefix: EVIL, message: EVIL, decisions: [EVIL], replicas: [{ replica_id: EVIL, state: EVIL }] } },
    logs: { a: { key: 'a', line: EVIL, name: EVIL, level: EVIL, node_id: EVIL } }
  };
  const values = { cluster_name: EVIL, cluster_state: EVIL, actors_by_state: { [EVIL]: 2 }, resources: [{ name: EVIL, used: 1, total: 2 }] };
  for (const name of PANEL_NAMES) {
    const { at, source } = mounted(name, new HandCommands('cancel', 'kill', 'stop', 'stop-trial', 'clone-trial', 'scale'));
    source.snapshot(tables, values);
    assert.equal(at.querySelectorAll('img').length, 0, name);
    assert.ok(at.textContent.includes('<img'), name);
  }
});

test('functions have bars that say their counts', () => {
  const { at, source } = mounted('tasks');
  const total = { name: 'all', finished: 1200, running: 8, pending: 92, rate_per_s: 350 };
  source.snapshot({ task_groups: { square: { name: 'square', finished: 1200, failed: 2, running: 8, pending: 92, mean_us: 2100 } } }, { tasks_total: total });
  assert.equal(at.querySelector('.rb-tasks .rb-bar').getAttribute('aria-label'), '1,200 finished, 2 failed, 8 running, 92 waiting');
  assert.match(at.querySelector('.rb-head').textContent, /1,200 of 1,300 done · 350\/s/);
});

test('progress bars of tasks stand below the functions, escaped, and say when they ended early', () => {
  const { at, source } = mounted('tasks');
  const progress = { a: { progress_id: 'a', name: EVIL, done: 4, total: 10, unit: 'it', pid: 7, rate_per_s: 2 }, b: { progress_id: 'b', name: 'load', done: 3, total: 5, over: true } };
  source.snapshot({ progress }, { tasks_total: { name: 'all' } });
  const bars = [...at.querySelectorAll('.rb-tasks .rb-bar')].map(bar => bar.getAttribute('aria-label'));
  assert.deepEqual(bars, ['4 / 10 it', '3 / 5']);
  assert.ok(at.textContent.includes('<img') && !at.querySelector('img'));
  assert.match(at.textContent, /ended/);
});

test('ten thousand tasks put only what is in sight into the page', () => {
  const { at, source } = mounted('tasks');
  const rows = [...Array(10_000).keys()].map(n => ({ task_id: `t${n}`, name: `f${n % 7}`, state: n === 17 ? 'FAILED' : 'FINISHED', started_ms: n, ended_ms: n + 1 }));
  const before = performance.now();
  source.snapshot({ tasks: byKey(rows, 'task_id') });
  const ms = performance.now() - before;
  const drawn = at.querySelectorAll('[data-task]');
  assert.ok(drawn.length > 10 && drawn.length < 60, String(drawn.length));
  assert.equal(drawn[0].getAttribute('data-task'), 't17', 'what failed comes first');
  assert.equal(at.querySelector('[role=table]').getAttribute('aria-rowcount'), '10000');
  assert.ok(ms < 2_000, `${ms} ms`);
});

test('a filter applies at once and asks the sender, too', async () => {
  const { at, source } = mounted('tasks');
  source.snapshot({ tasks: byKey([{ task_id: 'a', name: 'load', state: 'FINISHED' }, { task_id: 'b', name: 'train', state: 'FINISHED' }], 'task_id') });
  const field = at.querySelector('input[type=search]');
  field.value = 'TRA';
  field.oninput({ target: field });
  assert.deepEqual([...at.querySelectorAll('[data-task]')].map(row => row.getAttribute('data-task')), ['b']);
  await new Promise(resolve => setTimeout(resolve, 350));
  assert.deepEqual(source.asked.at(-1).filter, { text: 'TRA', state: '' });
});

test('cancel names the task, is drawn as under way, and its answer is announced', async () => {
  const { at, source, commands } = mounted('tasks', new HandCommands('cancel'));
  commands.answer = { ok: true, said: 'Cancelled 1 task.' };
  source.snapshot({ tasks: { a: { task_id: 'a', name: 'slow', state: 'RUNNING' } } });
  const button = at.querySelector('[data-task] [data-command=cancel]');
  assert.match(button.getAttribute('aria-label'), /cancel slow/);
  button.onclick();
  assert.ok(at.querySelector('[data-task] [data-command=cancel]').hasAttribute('disabled'));
  await settled();
  assert.deepEqual(commands.given, [['cancel', { task_ids: ['a'] }]]);
  const status = at.querySelector('[role=status][aria-live=polite]');
  assert.equal(status.textContent, 'Cancelled 1 task.');
  assert.ok(!at.querySelector('[data-task] [data-command=cancel]').hasAttribute('disabled'));
});

test('buttons of commands that cannot be given are not drawn', () => {
  const { at, source } = mounted('overview', new HandCommands());
  source.snapshot({ actors: { a: { actor_id: 'a', state: 'ALIVE' } }, experiments: SWEEP, trials: trials(8) });
  assert.equal(at.querySelectorAll('[data-command]').length, 0);
});

test('stopping a cluster takes two clicks', async () => {
  const { at, source, commands } = mounted('overview', new HandCommands('stop'));
  source.snapshot({});
  at.querySelector('[data-command=stop]').onclick();
  assert.equal(at.querySelector('[data-command=stop]').textContent, 'Click again to stop');
  assert.deepEqual(commands.given, []);
  at.querySelector('[data-command=stop]').onclick();
  await settled();
  assert.deepEqual(commands.given, [['stop', {}]]);
});

test('under a cell, cancel means what that cell submitted', async () => {
  const at = page();
  const [source, commands] = [new HandSource(), new HandCommands('cancel')];
  mountCard(['cluster', 'tasks', 'nonsense', 'tune'], at, source, commands, { cellId: 'In[7]', kernelId: 'k1', runId: 'run-1' });
  assert.deepEqual(source.asked, [{ panel: 'overview', filter: { experiment_id: 'run-1' } }]);
  source.snapshot({ task_groups: { f: { name: 'f', running: 2 } } }, { tasks_total: { name: 'all', running: 2 } });
  assert.deepEqual([...at.querySelectorAll('.raybook-panel')].map(panel => panel.getAttribute('data-panel')), ['cluster', 'tasks']);
  at.querySelector('[data-command=cancel]').onclick();
  await settled();
  assert.deepEqual(commands.given, [['cancel', { cell: 'In[7]', kernel_id: 'k1' }]]);
});

test('actors show restarts, old code and what they hold, and living ones can be killed', async () => {
  const { at, source, commands } = mounted('actors', new HandCommands('kill'));
  const rows = [
    { actor_id: 'a1', class_name: 'Trainer', state: 'ALIVE', restarts: 2, resources: { GPU: 0.5 }, stale: 'runs v2 of step, cell 7 has v3', calls_done: 40 },
    { actor_id: 'a2', class_name: 'Old', state: 'DEAD' }
  ];
  source.snapshot({ actors: byKey(rows, 'actor_id') }, { actors_by_state: { ALIVE: 1, DEAD: 1 } });
  const [first, second] = at.querySelectorAll('[data-actor]');
  assert.match(first.textContent, /Trainerold codealive.*0\.5 GPU/);
  assert.equal(second.querySelector('[data-command]'), null);
  first.querySelector('[data-command=kill]').onclick();
  await settled();
  assert.deepEqual(commands.given, [['kill', { actor_id: 'a1' }]]);
});

test('objects say who keeps them, and a tile chooses its row', () => {
  const { at, source } = mounted('objects');
  const rows = [{ object_id: 'o1', name: 'load', size_bytes: 3e8, holders: ['df (cell 3)', 'Out[12]'] }, { object_id: 'o2', size_bytes: 1e8, references: 2, owner_pid: 7, borrowers: 1 }];
  source.snapshot({ objects: byKey(rows, 'object_id') }, { store_total: { node_id: 'all', used_bytes: 4e8, capacity_bytes: 1e9, objects: 2 } });
  assert.match(at.querySelector('[data-object=o1]').textContent, /df \(cell 3\), Out\[12\]/);
  assert.match(at.querySelector('[data-object=o2]').textContent, /2 references in pid 7, 1 borrower/);
  const tiles = at.querySelectorAll('.rb-tile');
  assert.match(tiles[0].getAttribute('aria-label'), /load: 286 MiB, kept by df \(cell 3\)/);
  tiles[1].onclick();
  assert.deepEqual([...at.querySelectorAll('[data-object]')].map(row => row.getAttribute('data-object')), ['o2']);
});

test('a GPU that is reserved and idle says so, with who holds it', () => {
  const { at, source } = mounted('nodes');
  const node = {
    node_id: 'n1',
    resources: [{ name: 'GPU', used: 1.5, total: 2 }],
    gpus: [{ index: '0', memory_used_bytes: 1, memory_total_bytes: 4 }, { index: '1' }],
    holders: [{ name: 'Trainer', actor_id: 'a', resources: { GPU: 1, CPU: 1 } }]
  };
  source.snapshot({ nodes: { n1: node } });
  const text = at.querySelector('[data-node=n1]').textContent;
  assert.match(text, /Trainer 1 GPU, 1 CPU/);
  assert.match(text, /0\.5 GPU by tasks/);
  assert.match(text, /reserved, but idle/);
  source.delta({ nodes: { n1: { ...node, gpus: [{ index: '0', utilization: 0.5 }] } } });
  assert.doesNotMatch(at.textContent, /idle/);
});

test('trials can be stopped, paused and cloned with edited values', async () => {
  const { at, source, commands } = mounted('tune', new HandCommands('stop-trial', 'pause-trial', 'resume-trial', 'clone-trial'));
  source.snapshot({ experiments: SWEEP, trials: trials(8, n => ({ state: n === 0 ? 'PAUSED' : n === 1 ? 'TERMINATED' : 'RUNNING', best: n === 7 })) });
  const words = id => [...at.querySelectorAll(`[data-trial=${id}] [data-command]`)].map(button => button.textContent);
  assert.deepEqual([words('t0'), words('t1'), words('t2')], [['Go on', 'Stop', 'Clone'], ['Clone'], ['Pause', 'Stop', 'Clone']]);
  at.querySelector('[data-trial=t2] [data-command=stop-trial]').onclick();
  await settled();
  assert.deepEqual(commands.given, [['stop-trial', { run_id: 'run-1', trial_id: 't2' }]]);
  at.querySelector('[data-trial=t3] [data-command=clone-trial]').onclick();
  const field = at.querySelector('.rb-form input[aria-label=width]');
  field.value = 'many';
  field.oninput({ target: field });
  assert.ok(at.querySelector('.rb-form button[type=submit]').hasAttribute('disabled'));
  field.value = '96';
  field.oninput({ target: field });
  at.querySelector('.rb-form').onsubmit({ preventDefault: () => undefined });
  await settled();
  assert.deepEqual(commands.given.at(-1), ['clone-trial', { run_id: 'run-1', trial_id: 't3', config: { lr: 0.001, width: 96, act: 'relu' } }]);
  assert.equal(at.querySelector('.rb-form'), null);
});

test('a range of a parameter chooses trials, and those that run can be stopped', async () => {
  const { at, source, commands } = mounted('tune', new HandCommands('stop-trial'));
  source.snapshot({ experiments: SWEEP, trials: trials(8) });
  const pick = at.querySelector('select[aria-label="Choose trials by"]');
  pick.onchange({ target: { value: 'width' } });
  const to = at.querySelector('input[aria-label=To]');
  to.onchange({ target: { value: '32' } });
  assert.deepEqual([...at.querySelectorAll('[data-trial]')].map(row => row.getAttribute('data-trial')), ['t0', 't1', 't2']);
  const stop = [...at.querySelectorAll('[data-command=stop-trial]')].find(button => button.textContent === 'Stop these 3');
  stop.onclick();
  await settled();
  assert.deepEqual(commands.given.map(([, body]) => body.trial_id), ['t0', 't1', 't2']);
});

test('the best config becomes a cell', () => {
  const commands = new HandCommands();
  const cells = [];
  commands.insertCell = code => cells.push(code);
  const { at, source } = mounted('tune', commands);
  source.snapshot({ experiments: SWEEP, trials: trials(8, n => ({ best: n === 7 })) });
  at.querySelector('[data-command=insert-best]').onclick();
  assert.deepEqual(cells, ['best_config = {\n    "lr": 0.01,\n    "width": 112,\n    "act": "relu",\n}']);
});

test('a training run shows its workers, its metric and its last checkpoint', () => {
  const { at, source } = mounted('train');
  const row = { run_id: 'r1', name: 'mnist', state: 'RUNNING', workers_wanted: 2, workers: [{ rank: 0, hostname: 'a' }, { rank: 1, gpus: ['0'] }], reports: 7, step_ms: 120, metric: 'loss', value: 0.25, history: [1, 0.5, 0.25], metrics: { loss: 0.25 }, checkpoints: ['c1', 'c2'], latest_checkpoint: '/runs/c2' };
  source.snapshot({ trains: { r1: row } });
  assert.match(at.textContent, /mnistrunning2\/2 workers · 7 reports · 120 ms a steploss0\.25/);
  assert.match(at.textContent, /2 checkpoints, the last in \/runs\/c2/);
  assert.equal(at.querySelectorAll('tbody tr').length, 2);
});

test('a deployment shows replicas, rate, latencies and why their number changed', () => {
  const { at, source } = mounted('serve');
  const row = { app: 'default', app_status: 'RUNNING', name: 'Echo', status: 'HEALTHY', route_prefix: '/', replicas_wanted: 2, replicas: [{ replica_id: 'x', state: 'RUNNING' }], qps: 350, p50_ms: 3.8, p95_ms: 9, errors: 2, decisions: ['1 → 2: queue of 12'] };
  source.snapshot({ deployments: { d: row, e: { app: 'other', app_status: 'DEPLOY_FAILED', name: '', status: '', message: 'no module x' } } });
  assert.match(at.querySelector('[data-deployment=Echo]').textContent, /Echohealthy1\/2350\/s3\.8 ms9\.0 ms–02/);
  assert.match(at.querySelector('[data-app=default]').textContent, /Echo: 1 → 2: queue of 12/);
  assert.match(at.querySelector('[data-app=other]').textContent, /deploy_failedno module x/);
});

test('log lines are filtered by level and name', () => {
  const { at, source } = mounted('logs');
  const rows = [{ key: '1', line: 'boom', level: 'ERROR', name: 'A', node_id: 'n1' }, { key: '2', line: 'fine', name: 'B', node_id: 'n1' }];
  source.snapshot({ logs: byKey(rows, 'key') });
  const lines = () => [...at.querySelectorAll('.rb-log')].map(row => row.children[1].textContent);
  assert.deepEqual(lines(), ['boom', 'fine']);
  const level = at.querySelector('select[aria-label=Level]');
  level.onchange({ target: { value: 'ERROR' } });
  assert.deepEqual(lines(), ['boom']);
});

test('a failure of the source is said with what to do next, and goes with the next state', () => {
  const { at, source } = mounted('tasks');
  source.snapshot({});
  source.failed({ what: 'The cluster ended.', next: 'Start one with raybook.init().' });
  assert.match(at.querySelector('[role=status]').textContent, /The cluster ended\. Start one/);
  source.snapshot({});
  assert.equal(at.querySelector('[role=status]').textContent, '');
  source.status = 'waiting';
  source.told('waiting');
  assert.match(at.querySelector('[role=status]').textContent, /Not connected; trying again/);
});

test('every control has a name, and every picture says what it shows', () => {
  for (const name of PANEL_NAMES) {
    const { at, source } = mounted(name, new HandCommands('cancel', 'kill', 'stop', 'stop-trial', 'pause-trial', 'clone-trial', 'scale'));
    source.snapshot({
      nodes: { n1: { node_id: 'n1', resources: [{ name: 'GPU', used: 1, total: 2 }] } },
      tasks: { a: { task_id: 'a', name: 'f', state: 'RUNNING', started_ms: 1 } },
      task_groups: { f: { name: 'f', running: 1 } },
      actors: { a: { actor_id: 'a', state: 'ALIVE' } },
      objects: { o: { object_id: 'o', size_bytes: 5 } },
      experiments: SWEEP,
      trials: trials(8),
      logs: { 1: { key: '1', line: 'x' } }
    });
    for (const control of at.querySelectorAll('button, input, select')) {
      const named = control.getAttribute('aria-label') || control.textContent.trim();
      assert.ok(named, `${name}: ${control.outerHTML}`);
    }
    for (const picture of at.querySelectorAll('[role=img]')) {
      assert.ok(picture.getAttribute('aria-label'), `${name}: ${picture.outerHTML}`);
    }
  }
});
