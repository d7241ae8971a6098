/**
 * The JupyterLab part as a plugin: sidebar, panes (kept in the layout), chip, commands in the palette. Registration only.
 */
import { ILabShell, ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, MainAreaWidget, WidgetTracker } from '@jupyterlab/apputils';
import { ISettingRegistry } from '@jupyterlab/settingregistry';

import { PANEL_NAMES, PanelName, PANELS } from '../core/index.js';
import { ChipExtension } from '../panels/chip';
import { IClusterRecord } from '../state/describe';
import { Actions } from './actions';
import { clusterIcon } from './icon';
import { Gutter } from './gutter';
import { Notebooks } from './notebooks';
import { Pane } from './pane';
import { RaybookServer } from './server';
import { Sidebar } from './sidebar';

const PLUGIN_ID = 'raybook:plugin';
const CATEGORY = 'raybook';

export const labPlugin: JupyterFrontEndPlugin<void> = {
  id: PLUGIN_ID,
  description: 'Clusters in a sidebar, live panes of them, and the cluster of each notebook in its toolbar.',
  autoStart: true,
  optional: [ISettingRegistry, ICommandPalette, ILayoutRestorer, ILabShell],
  activate: async (
    app: JupyterFrontEnd,
    registry: ISettingRegistry | null,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
    labShell: ILabShell | null
  ): Promise<void> => {
    const { serviceManager, commands, shell } = app;
    const notebooks = new Notebooks(app);
    const server = new RaybookServer(serviceManager.serverSettings, 1_000);
    const actions = new Actions(server, notebooks, serviceManager.kernelspecs);
    const tracker = new WidgetTracker<MainAreaWidget<Pane>>({ namespace: 'raybook-panes' });

    let last: MainAreaWidget<Pane> | undefined;
    const open = (name: PanelName, cluster: string): MainAreaWidget<Pane> => {
      const id = `raybook-${name}-${cluster || 'current'}`;
      const known = tracker.find(widget => widget.id === id);
      if (known !== undefined) {
        shell.activateById(id);
        return known;
      }
      const widget = new MainAreaWidget({ content: new Pane(name, cluster, server, notebooks, actions) });
      widget.id = id;
      widget.title.closable = true;
      // The first pane goes beside the notebook, further ones are tabs there. Notebook 7 has no room for a second document.
      const beside = last?.isAttached ? last : tracker.find(each => each.isAttached);
      last = widget;
      const place = beside ? { mode: 'tab-after' as const, ref: beside.id } : { mode: 'split-right' as const };
      shell.add(widget, labShell === null ? 'right' : 'main', place);
      shell.activateById(id);
      void tracker.add(widget);
      return widget;
    };
    actions.openPane = (name: PanelName, record?: IClusterRecord) => void open(name, record?.cluster_id ?? '');

    for (const name of PANEL_NAMES) {
      commands.addCommand(`raybook:open-${name}`, {
        label: `Open ${PANELS[name].title}`,
        caption: `Show the pane ${PANELS[name].title} of a raybook cluster`,
        icon: clusterIcon,
        execute: args => open((args.panel as PanelName | undefined) ?? name, (args.cluster as string | undefined) ?? '')
      });
    }
    commands.addCommand('raybook:start-cluster', { label: 'Start a Cluster…', execute: () => actions.startCluster() });
    const aboutCurrent = { isEnabled: () => actions.clusterInView() !== undefined };
    const withCurrent = (act: (record: IClusterRecord) => Promise<void>): Promise<void> => {
      const record = actions.clusterInView();
      return record === undefined ? Promise.resolve() : act(record);
    };
    commands.addCommand('raybook:stop-cluster', {
      label: "Stop This Notebook's Cluster…",
      execute: () => withCurrent(record => actions.stop(record)),
      ...aboutCurrent
    });
    commands.addCommand('raybook:scale-cluster', {
      label: "Scale This Notebook's Cluster…",
      execute: () => withCurrent(record => actions.scale(record)),
      ...aboutCurrent
    });
    commands.addCommand('raybook:persist-cluster', {
      label: "Let This Notebook's Cluster Outlive It",
      execute: () => withCurrent(record => actions.persist(record)),
      isEnabled: () => actions.clusterInView()?.persist === false && actions.can('persist')
    });
    commands.addCommand('raybook:show-clusters', {
      label: 'Show Clusters',
      execute: () => shell.activateById('raybook-sidebar')
    });
    server.changed.connect(() => commands.notifyCommandChanged());
    notebooks.changed.connect(() => commands.notifyCommandChanged());
    for (const command of commands.listCommands().filter(each => each.startsWith('raybook:'))) {
      palette?.addItem({ command, category: CATEGORY });
    }

    const sidebar = new Sidebar(server, notebooks, actions);
    shell.add(sidebar, 'left', { rank: 550 });
    restorer?.add(sidebar, 'raybook-sidebar');
    if (restorer !== null) {
      void restorer.restore(tracker, {
        command: 'raybook:open-overview',
        args: ({ content }) => ({ panel: content.panel, cluster: content.cluster }),
        name: ({ content }) => `${content.panel}-${content.cluster}`,
        when: serviceManager.ready
      });
    }

    // Last, because it waits: what can be drawn is drawn by now.
    const settings = registry === null ? null : await registry.load(PLUGIN_ID).catch(() => null);
    if ((settings?.composite.cellStatus as boolean | undefined) ?? true) {
      new Gutter(server, notebooks);
    }
    const pollIntervalMs = (settings?.composite.pollIntervalMs as number | undefined) ?? 2000;
    app.docRegistry.addWidgetExtension(
      'Notebook',
      new ChipExtension(serviceManager.serverSettings, pollIntervalMs, notebooks, actions)
    );
  }
};
