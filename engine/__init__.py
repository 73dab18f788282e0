"""Token ids in, tokens out: a continuous-batching engine that knows no Redis, HTTP or Celery.

To know how it works, read these in this order; the rest is what they stand on.

    outputs, sampling_params     what goes in and what comes out
    engine                       the loop: add, schedule, launch, update, collect
    sequence                     one sample while it lives
    block_pool, shared_prefixes  who owns which block of the cache, and who may share it
    scheduler                    who advances in a step, and by how much
      waiting, job_line          who starts next
      admission, forecast        whether there is room for it, to its end
      repeats, turns             several tokens in one turn; a turn for those who wait for long
    step, step_executor          what a step is to compute, and where
    step_runner, batch           one step with walls between its rows, laid out flat
      prefix_forest              which of its rows read the same keys
    runner, kv_cache             the model and its cache on one device
    models/decoder               the decoder; models/families says what sets each family apart
    sampler, drawing             from logits to tokens
      device_sampler             the same where nothing is read back, from sampling_tables
      logit_rules, penalties     what weighs on them
      grammar, grammar_compiler  the form that an output must have
    detokenizer                  from tokens to text, and where a text stops
    llm                          all of it for a script

Around them: how a model comes in (`config`, `architecture`, `layer_kinds`, `rotary`, `weights`,
`safetensors_file`, `gguf_*`, `models/tensors`, `models/loading`), how models of others run
(`foreign_architecture`, `models/transformers_fallback`), text and tools (`tokenizer`, `chat_*`,
`tool_*`, `closed_schema`), vectors of prompts (`pooling`), and this machine (`cores`, `memory`).
"""
