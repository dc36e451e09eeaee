-- Selection. Auction and price of the bids on auctions whose id is a multiple of 123.
SELECT b.auction, b.price
FROM bid b
SEMI JOIN (SELECT 123 * n AS id FROM range(0, 1000) r(n)) multiples ON b.auction = multiples.id;
