// Work by cell, without a browser. Runs on the compiled sources: `jlpm test`.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { workByCell, workWords } from '../lib/state/cell_work.js';

const task = (cell, state = 'RUNNING') => ({ cell, state });

test('tasks stand beside the cell whose number they have', () => {
  const work = workByCell([task('In[3]'), task('In[3]', 'PENDING'), task('In[1]', 'FINISHED')], [{ prompt: 1 }, { prompt: 3 }]);
  assert.deepEqual([...work], [[1, { running: 1, waiting: 1 }]]);
});

test('a cell that runs has no number yet, and gets what is newer than all', () => {
  const cells = [{ prompt: 2 }, { prompt: '*' }, { prompt: '*' }];
  assert.deepEqual([...workByCell([task('In[5]')], cells)], [[1, { running: 1, waiting: 0 }]]);
});

test('what belongs to a cell that is gone, or to none, stands nowhere', () => {
  assert.equal(workByCell([task('In[4]'), task('')], [{ prompt: 7 }, { prompt: '*' }]).size, 0);
});

test('words say what runs, else what waits', () => {
  assert.deepEqual(workWords({ running: 2, waiting: 3 }), { short: '▶2', long: '2 running, 3 waiting on the cluster' });
  assert.equal(workWords({ running: 0, waiting: 3 }).short, '⏳3');
});
