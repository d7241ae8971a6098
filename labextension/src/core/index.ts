/**
 * The core: what every view of a cluster in a browser is made of. No framework, nothing of JupyterLab.
 *
 *     Socket or kernel ──IMessage──▶ PanelState (state) ──▶ IPanel.draw (sections/, panels/) ──▶ patch (dom)
 *     button ──▶ ICommands ──▶ the Jupyter server's `raybook/clusters/<id>/<command>`
 */
export { HttpCommands, IAnswer, Post } from './commands.js';
export { mountCard } from './mount.js';
export { mountPanel } from './pane.js';
export { IOptions } from './panel.js';
export { PANELS } from './panels/index.js';
export { PANEL_NAMES, PanelName, VIEW_SCHEMA_VERSION } from './schema.js';
export { IWire, Socket } from './socket.js';
export { CommandName, ICommands, IFailure, IFilter, ISaid, ISource, ISubscription, NO_COMMANDS, Status } from './source.js';
export { IMessage, PanelState } from './state.js';
