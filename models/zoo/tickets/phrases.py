"""What customers of a shop write about, team by team: asks, mentions, and the words around them.

`{word}` is a slot: `SLOTS` holds its synonyms. An *ask* wants something done; a *mention* names the
same things and wants nothing. A few asks are vague: they could go to more than one team, and which
one is meant is chance.
"""

TEAMS = ("billing", "delivery", "returns", "account", "technical", "sales")

SLOTS = {
    "parcel": ("parcel", "package", "order", "shipment", "box", "delivery"),
    "item": (
        "kettle",
        "headphones",
        "lamp",
        "printer",
        "jacket",
        "coffee machine",
        "drill",
        "camera",
        "vacuum cleaner",
        "keyboard",
        "router",
        "speaker",
        "desk",
        "backpack",
    ),
    "device": ("headphones", "printer", "camera", "router", "speaker", "coffee machine", "drill"),
    "invoice": ("invoice", "bill", "receipt", "statement"),
    "card": ("credit card", "card", "bank account", "debit card", "account at the bank"),
    "refund": ("refund", "money", "credit", "reimbursement"),
    "return": ("return", "send back", "hand back", "give back"),
    "returned": ("returned", "sent back", "gave back", "took back to the shop"),
    "login": ("log in", "sign in", "get into my account", "open my account"),
    "mail": ("email", "mail", "e-mail", "message"),
    "broken": ("broken", "dead", "faulty", "not working", "defective"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
    "price": ("price", "offer", "quote", "discount"),
    "sum": ("12.90", "19.99", "35 euros", "49.50", "120 euros", "8.40", "79 euros"),
}

ASKS = {
    "billing": (
        "I was charged twice for the {item}",
        "there is a wrong amount of {sum} on my {invoice}",
        "please send me the {invoice} for the {item} again",
        "my {card} was charged {sum} and I do not know what for",
        "can I pay the {item} in three parts",
        "the tax on the {invoice} is not right",
        "the payment of {sum} with my {card} was refused",
        "please change the company name on the {invoice}",
        "why is {sum} more on the {invoice} than in the basket",
    ),
    "delivery": (
        "where is my {parcel}",
        "the {parcel} should have been here on {day} and it is not",
        "the tracking of my {parcel} shows nothing since {day}",
        "can the {parcel} go to another address",
        "the courier left the {parcel} at the wrong door",
        "when will the {item} be brought",
        "half of the {parcel} is missing",
        "nobody rang and now the {parcel} is at some depot",
        "please bring the {parcel} in the evening",
    ),
    "returns": (
        "I want to {return} the {item}",
        "how can I {return} the {item}, it does not fit",
        "I {returned} the {item} on {day} and have seen no {refund}",
        "please send me a label to {return} the {item}",
        "when do I get my {refund} for the {item} I {returned}",
        "the {item} is not what I ordered, I want to swap it",
        "can I {return} the {item} without the box",
        "how long may I wait to {return} a {item}",
    ),
    "account": (
        "I cannot {login}",
        "I forgot my password and the {mail} to reset it never comes",
        "please change the {mail} address of my account",
        "somebody else seems to {login} with my name",
        "the code for the second step does not arrive on my phone",
        "please delete my account and all my data",
        "my account is locked since {day}",
        "how do I change the name in my profile",
    ),
    "technical": (
        "the {device} is {broken}",
        "the {device} does not connect to my phone",
        "after the update the {device} is {broken}",
        "the {device} makes a strange noise since {day}",
        "how do I reset the {device}",
        "the light of the {device} blinks red",
        "the app does not find the {device}",
        "the {device} stops after a minute",
    ),
    "sales": (
        "is the {item} available in black",
        "which {device} would you recommend for a small flat",
        "can I get a better {price} for ten pieces of the {item}",
        "when will the {item} be in stock again",
        "does the {device} fit the model I have",
        "do you have a {price} for schools",
        "what is the difference between the two models of the {device}",
        "is there a guarantee of three years for the {item}",
    ),
}

MENTIONS = {
    "billing": (
        "the {invoice} came and is right",
        "I paid with my {card} as always",
        "the {sum} are paid already",
        "the trouble with the {invoice} is settled",
    ),
    "delivery": (
        "the {parcel} came on {day}, all good",
        "the courier brought the {parcel} on time",
        "the {parcel} that was late has arrived",
        "the tracking of the {parcel} worked well this time",
    ),
    "returns": (
        "I do not want to {return} it",
        "the {refund} for the {item} I {returned} has come",
        "the {item} I {returned} is settled",
        "you took the {item} back without trouble, thank you",
    ),
    "account": (
        "I can {login} again",
        "the new password works",
        "my account is open again since {day}",
        "the {mail} address in my profile is right now",
    ),
    "technical": (
        "the {device} works well",
        "the {device} that was {broken} runs again",
        "the update of the {device} went well",
        "the noise of the {device} is gone",
    ),
    "sales": (
        "I bought the {item} from you on {day}",
        "your {price} for the {item} was good",
        "the colour of the {item} is as I wanted",
        "the advice about the {device} was good",
    ),
}

VAGUE = (
    (("billing", "returns"), "I am still waiting for my {refund} of {sum}"),
    (("delivery", "returns"), "the wrong {item} was in the {parcel}"),
    (("technical", "returns"), "the {device} came {broken}"),
    (("account", "technical"), "the app does not let me in any more"),
    (("billing", "sales"), "I did not get the {price} you promised for the {item}"),
    (("delivery", "sales"), "when can I have the {item}"),
    (("account", "billing"), "my {card} is not accepted in my account"),
)

FIRST = (
    "what I need most: {ask}",
    "this is urgent: {ask}",
    "the main thing is this: {ask}",
    "please look at this first: {ask}",
    "above all: {ask}",
)
LATER = (
    "less urgent: {ask}",
    "this can wait: {ask}",
    "if you have time after that: {ask}",
    "only a side question: {ask}",
    "and some day, no hurry: {ask}",
)
LINKS = ("by the way, {text}", "{text}", "so you know, {text}", "{text} by now", "at least {text}")
GREETINGS = ("hello", "hi", "dear team", "good morning", "hi there", "dear sir or madam", "hey")
CLOSINGS = (
    "thanks",
    "best regards",
    "thank you for your help",
    "please answer soon",
    "cheers",
    "kind regards",
    "I hope to hear from you",
)
FILLERS = (
    "I have been a customer for years",
    "I wrote to you before",
    "I hope you can help",
    "I tried the phone but nobody answered",
    "I am not very happy",
    "sorry for the long message",
)
