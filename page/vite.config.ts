import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

const PAGE = import.meta.dirname;
const TEMPLATES = join(PAGE, "../src/whence/report/templates");
const OUT = join(PAGE, "../src/whence/serve/static");

/** What decides the built files, by its path in the repository; tests/serve/test_page_is_built.py hashes the same. */
function sources(): [string, string][] {
  const own = readdirSync(join(PAGE, "src")).map((name): [string, string] => [`page/src/${name}`, join(PAGE, "src", name)]);
  const others = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"]
    .map((name): [string, string] => [`page/${name}`, join(PAGE, name)]);
  const shared = ["audit.css", "page.css", "shading.js"]
    .map((name): [string, string] => [`src/whence/report/templates/${name}`, join(TEMPLATES, name)]);
  return [...own, ...others, ...shared].sort(([a], [b]) => (a < b ? -1 : 1));
}

const hash = (content: Buffer) => createHash("sha256").update(content).digest("hex");

/** The report's script of shading is a plain script; here it is a module. */
const shading: Plugin = {
  name: "whence-shading",
  transform: (code, id) => (id.endsWith("/shading.js") ? `${code}\nexport default shading;\n` : null),
};

/** Says from which sources the files were built, and what they are. */
const built: Plugin = {
  name: "whence-built",
  closeBundle() {
    const files = ["index.html", "page.css", "page.js"];
    const content = {
      sources: Object.fromEntries(sources().map(([name, path]) => [name, hash(readFileSync(path))])),
      built: Object.fromEntries(files.map((name) => [name, hash(readFileSync(join(OUT, name)))])),
    };
    writeFileSync(join(OUT, "built.json"), `${JSON.stringify(content, null, 1)}\n`);
  },
};

export default defineConfig({
  root: PAGE,
  base: "/",
  plugins: [shading, built],
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "inline" },
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    cssCodeSplit: false,
    rollupOptions: {
      output: { entryFileNames: "page.js", assetFileNames: "page[extname]", inlineDynamicImports: true },
    },
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8642" } },
});
