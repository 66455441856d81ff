// Whether the dashboard is what Grafana's own types say a dashboard is. Its values are written as TypeScript, so that a key that there is
// not, or a wrong value, is an error.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const dashboard = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const literal = (value) => JSON.stringify(value, null, 1);
const raw = '@grafana/schema/dist/esm/raw/composable';

const lines = [
  "import type { Dashboard } from '@grafana/schema';",
  `import type { Options as TimeseriesOptions, FieldConfig as TimeseriesField } from '${raw}/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.d.ts';`,
  `import type { Options as StatOptions } from '${raw}/stat/panelcfg/x/StatPanelCfg_types.gen.d.ts';`,
  // JSON has the values of enums, not their names.
  'type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T',
  '  : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;',
  `export const dashboard: Plain<Dashboard> = ${literal(dashboard)};`,
];
const ids = new Set();
for (const panel of dashboard.panels) {
  if (ids.has(panel.id)) throw new Error(`two panels have the id ${panel.id}`);
  ids.add(panel.id);
  if (panel.type === 'row') continue;
  const type = { timeseries: 'Timeseries', stat: 'Stat' }[panel.type];
  if (!type) throw new Error(`no types are known here for panels of type ${panel.type}`);
  lines.push(`export const options${panel.id}: Plain<${type}Options> = ${literal(panel.options)};`);
  if (type === 'Timeseries') {
    lines.push(`export const field${panel.id}: Plain<TimeseriesField> = ${literal(panel.fieldConfig.defaults.custom)};`);
  }
  const { x, w } = panel.gridPos;
  if (x + w > 24) throw new Error(`${panel.title} is wider than the page`);
}

const scratch = mkdtempSync(join(here, 'node_modules', '.check-'));
try {
  const file = join(scratch, 'dashboard.ts');
  writeFileSync(file, lines.join('\n'));
  const options = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'esnext', '--moduleResolution', 'bundler', '--target', 'es2022'];
  const tsc = spawnSync(process.execPath, [join(here, 'node_modules/typescript/bin/tsc'), ...options, file], { stdio: 'inherit' });
  process.exitCode = tsc.status ?? 1;
} finally {
  rmSync(scratch, { recursive: true });
}
