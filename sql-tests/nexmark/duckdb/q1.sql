-- Currency conversion. Every bid with its price in euros, of which a dollar is 0.908: exact, three places.
SELECT auction, bidder, price::DECIMAL(18, 0) * 0.908::DECIMAL(4, 3), date_time, extra FROM bid;
