/**
 * Registration only: what JupyterLab is told exists. State is in `state/`, what is drawn is in `panels/`.
 */
import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ISettingRegistry } from '@jupyterlab/settingregistry';

import { CellViews } from './cellview';
import { ChipExtension } from './panels/chip';

const PLUGIN_ID = 'raybook:plugin';

const plugin: JupyterFrontEndPlugin<void> = {
  id: PLUGIN_ID,
  description: "Shows a notebook's raybook cluster in its toolbar.",
  autoStart: true,
  optional: [ISettingRegistry],
  activate: async (app: JupyterFrontEnd, registry: ISettingRegistry | null): Promise<void> => {
    const settings = registry === null ? null : await registry.load(PLUGIN_ID);
    const pollIntervalMs = (settings?.composite.pollIntervalMs as number | undefined) ?? 2000;
    app.docRegistry.addWidgetExtension('Notebook', new ChipExtension(app.serviceManager.serverSettings, pollIntervalMs));
  }
};

const cellViews: JupyterFrontEndPlugin<void> = {
  id: 'raybook:cell-views',
  description: 'Draws the live views under cells over the Jupyter server, past the kernel.',
  autoStart: true,
  activate: (app: JupyterFrontEnd): void => {
    app.docRegistry.addWidgetExtension('Notebook', new CellViews(app.serviceManager.serverSettings));
  }
};

export default [plugin, cellViews];
