// Bundles src/cell.ts (compiled by tsc to lib/cell.js) into one ESM file that travels to the page with the widget.
import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { rspack } from '@rspack/core';

const here = dirname(fileURLToPath(import.meta.url));
const folder = join(here, '..', 'widgets', 'raybook_widgets', 'static');
// It travels once for each widget: keep it a fraction of a picture.
const BYTES_MAX = 40 * 1024;

const stats = await new Promise((resolve, reject) => {
  rspack(
    {
      mode: 'production',
      context: here,
      entry: './lib/cell.js',
      devtool: false,
      target: ['web', 'es2022'],
      output: { path: folder, filename: 'cell.js', module: true, library: { type: 'module' } },
      experiments: { outputModule: true },
      performance: false
    },
    (error, done) => (error ? reject(error) : resolve(done))
  );
});
if (stats.hasErrors()) {
  console.error(stats.toString({ colors: false }));
  process.exit(1);
}
const { size } = await stat(join(folder, 'cell.js'));
if (size > BYTES_MAX) {
  console.error(`cell.js has ${size} bytes; ${BYTES_MAX} is the limit.`);
  process.exit(1);
}
if (!(await readFile(join(folder, 'cell.js'), 'utf8')).includes('as default')) {
  console.error('cell.js has no default export, which is what anywidget asks for.');
  process.exit(1);
}
console.log(`cell.js: ${size} bytes`);
