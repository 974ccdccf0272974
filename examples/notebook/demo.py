# %% [markdown]
# # The demo cohort from Python
# Each cell below runs in Jupyter, VS Code or Spyder, or all of them by `python examples/notebook/demo.py`. Invented
# patients, about five minutes; run it again and only what is missing is done.

# %%
import sys
from pathlib import Path

import wsisurv
from wsisurv.demo.run import draw

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("wsisurv-demo")
cases = int(sys.argv[2]) if len(sys.argv) > 2 else 60
place = wsisurv.Workspace(folder / "workspace")
data = draw(folder, cases=cases)

# %% Slides and reports: tiles, features, statements. What failed is in what a step returns.
tiled = wsisurv.tile(place, [data.slides])
embedded = wsisurv.embed(place)
read = wsisurv.extract_report(place, data.reports, wsisurv.ReportSettings(backend="rules"))
print("failed:", [*tiled.failed, *embedded.failed, *read.failed])

# %% The cohort, and what went into it
columns = wsisurv.CohortSettings(time="days", event="event", site="hospital", covariates=("age", "stage"))
cohort, audit = wsisurv.make_cohort(place, "demo", data.clinical, columns)
print(audit.cases, "cases,", audit.events, "events")
print(cohort.to_frame().head())

# %% Teacher, student, and the risks of a hospital that neither has seen
teacher = wsisurv.train_teacher(place, cohort)
student = wsisurv.distill(place, cohort)
print(f"gate {teacher.gate:.2f}; the {student.winner} student is used")
slide_map = folder / "data" / "heldout" / "slide_map.csv"
risks = wsisurv.predict(
    place, [data.held_out_slides], cohort="demo", slide_map=slide_map, output=folder / "risk.csv"
).to_frame()
print(risks[["log_hazard", "risk_percentile", "risk_group", "survival_1y"]].sort_values("log_hazard"))

# %% Does it hold there? External validation, beside the student's own training
external = wsisurv.evaluate(
    place,
    place.cohort("demo") / "student.h5",
    [data.held_out_slides],
    cohort="heldout",
    clinical=data.held_out_clinical,
    columns=columns,
    slide_map=slide_map,
    resamples=200,
)
print(external.to_frame().groupby("risk_group")[["time", "event"]].mean())
print(*external.verdict, sep="\n")

# %% One page with all of it, to open in a browser
page = wsisurv.report(place, "demo").page
