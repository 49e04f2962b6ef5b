"""Column names that tasks take without asking, best first, in English and Chinese."""

TEXT_COLUMNS = (
    *("text", "sentence", "sentence1", "text_a", "review", "content", "comment", "message"),
    *("sms", "tweet", "body", "document", "utterance", "query", "question1", "question"),
    *("premise", "#1 string", "title", "description", "文本", "内容", "评论", "句子", "标题"),
)
PAIR_COLUMNS = ("text_pair", "sentence2", "text_b", "hypothesis", "question2", "#2 string")
LABEL_COLUMNS = (
    *("label", "labels", "class", "category", "target", "sentiment", "intent", "topic"),
    *("quality", "y", "标签", "类别", "分类", "情感"),
)
NUMBER_COLUMNS = (
    *("score", "rating", "similarity", "stars", "value", "number", "price", "评分", "分数"),
    "相似度",
)
