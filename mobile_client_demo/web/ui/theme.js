// Read before anything is painted, so that nobody at night is dazzled by a white page: therefore a plain script and not a module.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      return localStorage.getItem("aldis.theme") || "auto";
    } catch {
      return "auto";
    }
  }

  function apply() {
    const theme = chosen() === "auto" ? (dark.matches ? "dark" : "light") : chosen();
    document.documentElement.dataset.theme = theme;
    const bar = document.querySelector('meta[name="theme-color"]');
    if (bar) bar.content = theme === "dark" ? "#111b22" : "#fbfaf6";
  }

  dark.addEventListener("change", apply);
  addEventListener("aldis-theme", apply);
  apply();
})();
