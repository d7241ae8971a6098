/**
 * Registration only: what JupyterLab is told exists. `core/` draws states of clusters, `lab/` puts that into JupyterLab,
 * `state/` and `panels/` are the toolbar's chip.
 */
import { cellViews } from './cellview';
import { labPlugin } from './lab/plugin';

export default [labPlugin, cellViews];
