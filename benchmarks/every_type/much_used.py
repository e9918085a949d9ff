"""Model types that are much used, for which more than conversion is asked for."""

MUCH_USED = {
    "causal-lm": """
        bloom falcon mpt mixtral qwen2_moe qwen3_moe gpt_oss deepseek_v3 granite granitemoe olmo olmo2 olmo3 olmoe
        smollm3 gemma gemma3_text phi phimoe stablelm starcoder2 cohere2 glm4 nemotron mamba mamba2 qwen3_next
        recurrent_gemma llama4_text xglm codegen gptj
    """,
    "masked-lm": "albert deberta-v2 mpnet xlm-roberta camembert modernbert esm longformer",
    "seq2seq-lm": "t5 mt5 bart mbart pegasus m2m_100",
    "image-classification": "siglip swin convnext resnet dinov2 deit beit",
    "image-text": "qwen2_5_vl qwen3_vl gemma3 smolvlm idefics3 llava_next paligemma internvl mistral3",
    "speech-seq2seq": "whisper",
    "ctc": "wav2vec2",
}
