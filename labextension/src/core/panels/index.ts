/** All panels by name, in the order of menus. */
import { IPanel } from '../panel.js';
import { PanelName } from '../schema.js';
import { actors } from './actors.js';
import { logs } from './logs.js';
import { nodes } from './nodes.js';
import { objects } from './objects.js';
import { overview } from './overview.js';
import { serve } from './serve.js';
import { tasks } from './tasks.js';
import { train } from './train.js';
import { tune } from './tune.js';

export const PANELS = { overview, tasks, actors, objects, nodes, tune, train, serve, logs } as unknown as Record<PanelName, IPanel<object>>;
