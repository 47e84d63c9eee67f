"""Fair lottery tickets: the helper package of the notebooks.

The core, in the order in which it is best read:

- ballot: the method on one page: find a ticket, retrain it, settle its biases
- lottery: levels of training, pruning and rewinding
- conflict: where accuracy and fairness pull a unit apart
- selection: from scores to a mask of an exact number of weights
- retraining: training steered by validation fairness
- bias_shift: one constant per class, added to the outputs
- metrics: from counts to accuracy, CWV, MCD, their floors and intervals
- masks: which weights are kept
- training: an optimiser's epochs, and predictions
- images: splits of images and labels

Around it, the wings: `config` (runs, presets, methods, paths), `data` (data sets), `models`
(networks), `methods` (Ballot, its rivals and controls), `analysis` (what tables say), `figures`,
`shipping` (tickets, smaller networks, ONNX), `workflow` (experiments, notebooks, command line).

Values flow one way: Run -> Data -> dense net -> scores -> MaskSet -> retrained ticket -> counts ->
metrics -> Record -> table -> figure. import-linter holds who may import whom, see pyproject.toml.
"""

__version__ = "0.1.0"
