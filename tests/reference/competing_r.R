# Figures of R's survival and cmprsk for tests/survival/test_against_r.py: reads a table, prints JSON-like lines.
suppressMessages({library(survival); library(cmprsk)})
data <- read.csv(commandArgs(TRUE)[1])
show <- function(name, values) cat(name, paste(sprintf("%.12g", values), collapse=" "), "\n")
at <- as.numeric(strsplit(commandArgs(TRUE)[2], ",")[[1]])
state <- factor(data$cause, 0:2, c("censored", "event", "other"))
curve <- survfit(Surv(time, state) ~ 1, data)
found <- summary(curve, times=at, extend=TRUE)
show("incidence", found$pstate[, match("event", curve$states)])
show("incidence_se", found$std.err[, match("event", curve$states)])
late <- survfit(Surv(entry, time, state) ~ 1, data, id=seq_len(nrow(data)))
show("late", summary(late, times=at, extend=TRUE)$pstate[, match("event", late$states)])
gray <- cuminc(data$time, data$cause, data$group)
show("gray", gray$Tests[1, c("stat", "pv")])
gray_of <- timepoints(cuminc(data$time, data$cause), at)
show("cmprsk", gray_of$est[1, ])
fit <- coxph(Surv(time, cause == 1) ~ x, data, ties="efron")
show("coefficient", c(coef(fit), sqrt(vcov(fit))))
show("hazard", summary(survfit(fit, newdata=data.frame(x=0)), times=at, extend=TRUE)$cumhaz)
show("concordance", concordance(Surv(time, cause == 1) ~ x, data, reverse=TRUE)$concordance)
show("late_concordance", concordance(Surv(entry, time, cause == 1) ~ x, data, reverse=TRUE)$concordance)
show("wolbers", concordance(Surv(ifelse(cause == 2, 2 * max(time), time), cause == 1) ~ x, data, reverse=TRUE)$concordance)
show("uno", concordance(Surv(time, cause == 1) ~ x, data, reverse=TRUE, timewt="n/G2", ymax=max(at))$concordance)
several <- transform(data, state=state, id=seq_len(nrow(data)))
multi <- survfit(coxph(Surv(time, state) ~ x, several, id=id, ties="efron"), newdata=data.frame(x=c(-1, 0, 1)))
test <- cox.zph(fit, transform="km")
show("schoenfeld", test$table[1, c("chisq", "p")])
mean_time <- summary(survfit(Surv(time, cause == 1) ~ 1, data), rmean=max(at))$table
show("restricted_mean", mean_time[c("rmean", "se(rmean)")])
# packages that not everybody has beside the two: Wolbers's concordance and the AUC with weights for censoring
if (requireNamespace("riskRegression", quietly=TRUE) && requireNamespace("pec", quietly=TRUE)) {
  library(prodlim)
  risk <- matrix(plogis(data$x), nrow(data), length(at))
  asked <- function(metrics) riskRegression::Score(list(x=risk), Hist(time, cause) ~ 1, data=data, times=at,
    cens.model="km", se.fit=FALSE, metrics=metrics, null.model=FALSE)
  show("auc", asked("auc")$AUC$score$AUC)
  show("brier", asked("brier")$Brier$score$Brier)
  truncated <- pec::cindex(list(x=risk[, 1, drop=FALSE]), Hist(time, cause) ~ 1, data=data, eval.times=at[2],
    pred.times=at[2], cause=1, cens.model="marginal")
  show("weighted_wolbers", truncated$AppCindex$x)
}
told <- summary(multi, times=at, extend=TRUE)$pstate
for (who in 1:3) show(paste0("risk", who), told[, who, match("event", multi$states)])
