// The words of the sidebar, without a browser. Runs on the compiled sources: `jlpm test`.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { connectCode, factWords, lifeWords, titleOf, versionWarning } from '../lib/lab/words.js';

const record = {
  cluster_id: '0123456789abcdef',
  name: 'blue-heron',
  address: '127.0.0.1:6379',
  persist: false,
  owner_kernel_id: 'k1',
  env_prefix: '/opt/env',
  python_version: '3.11.7',
  raybook_version: '0.1.0',
  resources: { CPU: 2 }
};

test('a hostile name stays inside its string in the cell that connects', () => {
  const code = connectCode({ ...record, name: '");import os\n' });
  assert.ok(code.endsWith('ray.init(address="\\");import os\\n")'));
});

test('a cluster without a name goes by its id', () => {
  assert.equal(titleOf({ ...record, name: '' }), 'cluster 01234567');
  assert.match(connectCode({ ...record, name: '' }), /"0123456789abcdef"/);
});

test('it is said with whom a cluster ends', () => {
  assert.equal(lifeWords(record, 'a.ipynb', 0), 'Ends with a.ipynb');
  assert.equal(lifeWords(record, undefined, 0), 'Ends with another notebook');
  assert.equal(lifeWords({ ...record, owner_kernel_id: null }, undefined, 0), 'Ends with a script');
  assert.equal(lifeWords({ ...record, persist: true }, undefined, 0), 'Stays until it is stopped');
});

test('an idle cluster counts down, a busy one says its limit', () => {
  const kept = { ...record, persist: true, idle_timeout_s: 600 };
  assert.equal(lifeWords({ ...kept, idle_since_unix_ms: 1_000 }, undefined, 541_000), 'Idle, ends in 60 s');
  assert.equal(lifeWords({ ...kept, idle_since_unix_ms: 1_000 }, undefined, 9e9), 'Idle, ends in 0 s');
  assert.equal(lifeWords({ ...kept, idle_since_unix_ms: 0 }, undefined, 9e9), 'Ends when idle for 10 min');
});

test('facts name resources and versions', () => {
  assert.equal(factWords(record), '2 CPU · Python 3.11.7 · raybook 0.1.0');
  assert.equal(versionWarning(record, [record]), null);
  assert.match(versionWarning(record, [record, { ...record, raybook_version: '0.2.0' }]), /runs raybook 0\.1\.0/);
});
