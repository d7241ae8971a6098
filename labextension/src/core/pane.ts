/**
 * Panes: one panel with everything it has, as JupyterLab shows it in a tab of its own.
 */
import { View } from './mount.js';
import { IOptions } from './panel.js';
import { PANELS } from './panels/index.js';
import { PanelName } from './schema.js';
import { ICommands, ISource } from './source.js';
import { PANE_STYLE, wearStyle } from './style.js';

export function mountPanel(
  name: PanelName,
  element: HTMLElement,
  source: ISource,
  commands: ICommands,
  options: IOptions = {}
): () => void {
  wearStyle(element, PANE_STYLE, 'raybook-pane-style');
  return new View(element, [{ name, panel: PANELS[name] }], name, source, commands, options).dispose;
}
