"""The engine: one process that holds the model, steers it, captures its residuals and answers over HTTP."""
