/** The icon: a head with three nodes. `jp-icon3` takes the theme's colour. */
import { LabIcon } from '@jupyterlab/ui-components';

const SVG = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
<g class="jp-icon3" fill="#616161"><circle cx="12" cy="6" r="3.6"/><circle cx="4.6" cy="18" r="2.8"/><circle cx="12" cy="19" r="2.8"/>
<circle cx="19.4" cy="18" r="2.8"/><path d="M11.4 9h1.2v8h-1.2zM9.3 8.2l1 .6-4.8 7.9-1-.6zM14.7 8.2l-1 .6 4.8 7.9 1-.6z"/></g></svg>`;

export const clusterIcon = new LabIcon({ name: 'raybook:cluster', svgstr: SVG });
