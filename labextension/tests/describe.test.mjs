// The words of the chip, without a browser. Runs on the compiled sources: `jlpm test`.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { describe, resourceWords } from '../lib/state/describe.js';

const record = {
  cluster_id: 'c1',
  name: 'blue-heron',
  address: '127.0.0.1:6379',
  persist: false,
  env_prefix: '/opt/env',
  python_version: '3.11.7',
  raybook_version: '0.1.0',
  resources: { memory: 1e9, CPU: 2, 'node:127.0.0.1': 1, accelerator: 1, GPU: 0.5, object_store_memory: 1e8 }
};

test('resources people count come first, memory and node marks stay out', () => {
  assert.equal(resourceWords(record.resources), '2 CPU · 0.5 GPU · 1 accelerator');
});

test('a running cluster is shown by its resources, and says whether it outlives the kernel', () => {
  const owned = describe({ kind: 'cluster', record });
  assert.equal(owned.text, 'raybook: 2 CPU · 0.5 GPU · 1 accelerator');
  assert.match(owned.tooltip, /blue-heron at 127\.0\.0\.1:6379[\s\S]*Ends with this kernel\./);
  const kept = describe({ kind: 'cluster', record: { ...record, persist: true } });
  assert.match(kept.tooltip, /Stays when the kernel ends\./);
});

test('a cluster without resources still says that it runs', () => {
  assert.equal(describe({ kind: 'cluster', record: { ...record, resources: {} } }).text, 'raybook: running');
});

test('every other state says what is missing, and none claims a cluster', () => {
  const texts = [
    { kind: 'asking' },
    { kind: 'no-kernel' },
    { kind: 'no-extension' },
    { kind: 'unreachable', reason: 'HTTP 502' },
    { kind: 'no-cluster' },
    { kind: 'ended', name: 'blue-heron' }
  ].map(state => describe(state));
  assert.equal(new Set(texts.map(words => words.text)).size, texts.length);
  assert.ok(texts.every(words => words.tone !== 'good' && words.text.startsWith('raybook: ')));
  assert.match(texts[3].tooltip, /HTTP 502/);
});
