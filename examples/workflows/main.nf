// wsisurv as processes of Nextflow: slides, reports and follow-up to risk.csv, in as many jobs as you like.
//   nextflow run main.nf --slides /abs/slides --reports /abs/reports --clinical /abs/clinical.csv --workspace /abs/workspace
// Paths are absolute: each process runs in a folder of its own, and all of them share one workspace.
params.shares = 8
params.encoder = 'histomics'
params.backend = 'rules'
params.columns = '--time days --event event'

process TILE {
    input:
    val share
    output:
    val share
    script:
    """
    wsisurv tile '${params.slides}' --workspace '${params.workspace}' --shard ${share}/${params.shares}
    """
}

process EMBED {
    input:
    tuple val(share), val(tiled)
    output:
    val share
    script:
    """
    wsisurv embed --workspace '${params.workspace}' --encoder '${params.encoder}' --shard ${share}/${params.shares}
    """
}

process EXTRACT_REPORT {
    output:
    val true
    script:
    """
    wsisurv extract-report '${params.reports}' --workspace '${params.workspace}' --backend '${params.backend}'
    """
}

process TRAIN_AND_PREDICT {
    input:
    val embedded
    val reports
    script:
    """
    wsisurv train-teacher --cohort study --workspace '${params.workspace}' --encoder '${params.encoder}' --clinical '${params.clinical}' ${params.columns}
    wsisurv distill --cohort study --workspace '${params.workspace}'
    wsisurv predict --cohort study --workspace '${params.workspace}'
    """
}

workflow {
    shares = Channel.of(1..params.shares)
    tiled = TILE(shares).count()
    embedded = EMBED(shares.combine(tiled)).count()
    TRAIN_AND_PREDICT(embedded, EXTRACT_REPORT())
}
