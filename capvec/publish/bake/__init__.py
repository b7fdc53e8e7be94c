"""Bakes a steer into a model folder that needs no hook, and proves that the folder does what the hook did.

**`--op add`** adds α·v_L to the residual of layer L at every position. A decoder block's output is a sum whose last
term is the MLP's output map W·x, so the addition is exactly a bias on that map: W·x + α·v_L. If the architecture has
such a bias (GPT-2, GPT-NeoX, Phi, OPT), or its config can ask for one (`mlp_bias` of Llama and similar models, where
the other new biases are zero), every loader loads the folder. Otherwise (Qwen, Mistral, …) the folder brings
`modeling_capvec.py` and needs `trust_remote_code=True`. Without it transformers refuses to load; a plain config with
one tensor too many would load without the bias and with only a warning. capvec's engine loads such folders with its
own copy of that file, and never runs code from a folder.

**`--op ablate`** replaces every matrix, and every bias, that writes into the residual: W ← (I − d·dᵀ)·W, with d = v_L
/ ‖v_L‖ of one layer (Arditi et al. 2024, "Refusal in language models is mediated by a single direction", section 4).
This removes d *at every write*, from the embedding on. A sweep's `--op ablate` removes d at the output of one block
only, which is not an edit of weights, because other modules wrote what passes through a block.

**`--op set`** cannot be baked. Bake `ablate`, then `add`. A sweep's `--op set` adds (α·‖v_L‖ − ⟨h, d⟩)·d at the output
of block L: a vector that differs for every token and grows with the residual. A block reads the residual through a
norm, so no weights and biases give such an output. A component that is the same everywhere can be had: bake `ablate`,
then `add` at block L into the resulting folder. The component is then 0 up to that block and α·‖v_L‖ from there on.

The edited tensors are stored in float32 in every case: safetensors can mix dtypes, and loaders cast to the dtype that
they are asked for, so the folder loses nothing. In bfloat16 the edited tensors are rounded like all others;
`BAKED.json` records by how much.

| module | content |
|---|---|
| `order` | the options of `capvec bake`, checked |
| `command` | the command: from the order to the finished folder |
| `plan` | both forms of the steer, as a hook and as an edit |
| `writers` | the modules that write into the residual, by architecture |
| `edit` | the new tensors |
| `folder` | the model folder |
| `proof` | the comparison of the hooked model with the baked one |
| `record` | `BAKED.json` |
"""
