"""Permanent forms of a steer: a model folder that needs no hook, and the proof that it does what the hook did.

`--op add`: α·v_L on the residual of layer L at every position. A decoder block's output is a sum, and its last term is
the MLP's output map W·x, so that the addition is exactly a bias on that map: W·x + α·v_L. Where the architecture has
such a bias (GPT-2, GPT-NeoX, Phi, OPT) or its config can ask for one (`mlp_bias`: Llama and its kin, where the other
new biases are zero), every loader loads the folder. Elsewhere (Qwen, Mistral, …) the folder brings
`modeling_capvec.py` and needs `trust_remote_code=True`; without it transformers refuses to load, while a plain config
with one tensor too many would load without the bias and with no more than a warning. capvec's engine loads such
folders with its own copy of that file, and never runs code from a folder.

`--op ablate`: W ← (I − d·dᵀ)·W for every matrix, and every bias, that writes into the residual: Arditi et al. 2024,
"Refusal in language models is mediated by a single direction", section 4, with d = v_L / ‖v_L‖ of one layer. This
removes d *at every write*, from the embedding on. A sweep's `--op ablate` removes it at the output of one block only;
that is not an edit of weights, because what passes through a block was written by others.

There is no `set`. A sweep's `--op set` adds (α·‖v_L‖ − ⟨h, d⟩)·d at the output of block L: another vector for every
token, and one that grows with the residual. What a block adds does not, since it reads the residual through a norm, so
that no value of its weights and biases equals it. A component that is the same everywhere can be had: bake `ablate`,
then bake `add` at block L into the folder that comes out; it is 0 up to that block and α·‖v_L‖ from there on.

What the edit changes is stored in float32, whatever the model's dtype: safetensors can mix dtypes, loaders cast to the
dtype they are asked for, and so the folder loses nothing. Run in bfloat16, the changed tensors are rounded as all
others are; `BAKED.json` says by how much.

| module | holds |
|---|---|
| `command` | the command: from what was typed to a finished folder |
| `writers` | which modules write into the residual, by architecture |
| `edit` | the new tensors |
| `folder` | the model folder |
| `proof` | the hooked model and the baked one on real prompts, compared |
| `record` | `BAKED.json` |
"""
