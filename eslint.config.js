// The scripts of the report's pages, and their unit tests.
import js from "@eslint/js";

const names = (list) => Object.fromEntries(list.split(" ").map((name) => [name, "readonly"]));

export default [
  js.configs.recommended,
  {
    rules: { eqeqeq: "error", "no-var": "error", "prefer-const": "error", "no-shadow": "error", complexity: ["error", 14] },
    linterOptions: { reportUnusedDisableDirectives: "error" },
  },
  {
    files: ["jobs/report/browser/*.js"],
    languageOptions: {
      globals: names(
        "addEventListener document history IntersectionObserver localStorage location setTimeout URLSearchParams",
      ),
    },
  },
  { files: ["tests/**/*.js"], languageOptions: { globals: names("URLSearchParams") } },
];
