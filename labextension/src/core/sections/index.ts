/** Sections by name, in the order in which a card stacks them: what stands under a cell. */
import { IPanel } from '../panel.js';
import { actorTable } from './actor_table.js';
import { cluster } from './cluster.js';
import { storeLine } from './store_line.js';
import { taskGroups } from './task_groups.js';
import { trialTable } from './trial_table.js';

export const SECTIONS = {
  cluster,
  tasks: taskGroups,
  actors: actorTable,
  objects: storeLine,
  tune: trialTable
} as unknown as Record<string, IPanel<object>>;
